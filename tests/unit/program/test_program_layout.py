"""The choice of layouts: what is blocked, the width of halos, and what is written straight into a concatenation."""

from __future__ import annotations

from typing import Any

import pytest
from support.graphs import Builder

from cpuruntime import passes
from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Graph, Value
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.plan.choices import choose_layouts, choose_methods
from cpuruntime.program.plan.layout import LayoutPlan, whole_blocks


def planned(b: Builder, *outputs: Value) -> tuple[Graph, LayoutPlan]:
    """The optimised graph and its layouts, convolutions being direct ones."""
    graph = passes.run(b.graph(*outputs))
    images = [node for node in graph.nodes if len(node.outputs[0].static_shape) < 5]
    assert not any(isinstance(find_lowering(node), str) for node in images)
    return graph, choose_layouts(graph, choose_methods(graph, exact=True, tuner=None))


def conv(b: Builder, x: Value, channels: int, out: int, kernel: int = 3, **attributes: Any) -> Value:
    return b("Conv", x, b.weights(out, channels, kernel, kernel), **attributes)


def test_images_are_blocked_and_rows_are_plain() -> None:
    b = Builder()
    y = conv(b, b.input(1, 3, 8, 8), 3, 20)
    y = b("Softmax", b("Erf", b("MaxPool", y, kernel_shape=[2, 2])), axis=1)
    z = b("Exp", b("MatMul", b.input(2, 3), b.weights(3, 4)))
    graph, plan = planned(b, y, z)
    kinds = {node.op_type: node.outputs[0] in plan.blocked for node in graph.nodes[:4]}
    assert kinds == {"Conv": True, "MaxPool": True, "Erf": True, "Softmax": False}
    assert not any(node.outputs[0] in plan.blocked for node in graph.nodes[4:])


@pytest.mark.parametrize("channels", [LANES, LANES + 1])
def test_functions_that_make_no_numbers_of_some_need_whole_blocks(channels: int) -> None:
    b = Builder()
    y = b("MaxPool", b.input(1, channels, 8, 8), kernel_shape=[2, 2])
    graph, plan = planned(b, b("Log", y), b("Sqrt", y), b("Exp", y), b("Tanh", y))
    is_blocked = {node.op_type: node.outputs[0] in plan.blocked for node in graph.nodes}
    whole = channels % LANES == 0
    assert is_blocked == {"MaxPool": True, "Log": whole, "Sqrt": whole, "Exp": whole, "Tanh": True}


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((1, 20, 1, 1), True), ((2, 1, 4, 4), True), ((), True), ((1,), True), ((20, 1, 1), False), ((4,), False)],
)
def test_operands_are_images_or_scalars(shape: tuple[int, ...], fits: bool) -> None:
    b = Builder()
    y = b("MaxPool", b.input(2, 20, 5, 5), kernel_shape=[2, 2])
    graph, plan = planned(b, b("Max", y, b.input(*shape)))
    assert (graph.nodes[-1].outputs[0] in plan.blocked) == fits


def test_other_element_types_and_ranks_are_plain() -> None:
    b = Builder()
    x = b.input(2, 20, 5, 5)
    y = b("MaxPool", x, kernel_shape=[2, 2])
    volume = b("MaxPool", b.input(1, 2, 4, 4, 4), kernel_shape=[2, 2, 2])
    b.output(b("Add", x, x), b("Cast", y, to=7), b("Greater", y, b.constant(0)), b("Relu", volume))
    graph, plan = planned(b)
    assert {n.op_type for n in graph.nodes if n.outputs[0] in plan.blocked} == {"MaxPool"}
    assert not any(len(v.static_shape) == 5 for v in plan.blocked)


def test_a_halo_is_the_widest_that_a_reader_wants() -> None:
    b = Builder()
    y = b("MaxPool", b.input(1, 16, 9, 9), kernel_shape=[2, 2])
    b.output(conv(b, y, 16, 16, 3, pads=[2, 1, 2, 2]), conv(b, y, 16, 16, 5, pads=[0, 4, 0, 1]))
    b.output(conv(b, y, 16, 16, 1), b("MaxPool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    graph, plan = planned(b)
    assert plan.halos[graph.nodes[0].outputs[0]] == (4, 2)


def test_padding_that_no_window_reaches_is_no_halo() -> None:
    b = Builder()
    y = b("MaxPool", b.input(1, 16, 9, 9), kernel_shape=[2, 2])  # 8 x 8
    b.output(conv(b, y, 16, 16, 3, pads=[1, 1, 1, 1], strides=[2, 2]))
    graph, plan = planned(b)
    assert plan.halos[graph.nodes[0].outputs[0]] == (1, 0)


def concatenation(*parts: int) -> tuple[list[Value], Value, LayoutPlan]:
    """The parts, the whole and the plan of pools that are concatenated and convolved."""
    b = Builder()
    pools = [b("MaxPool", b.input(1, part, 5, 5), kernel_shape=[2, 2]) for part in parts]
    whole = b("Concat", *pools, axis=1)
    graph, plan = planned(b, conv(b, whole, sum(parts), 4, 3, pads=[1, 1, 1, 1]))
    join = next(node for node in graph.nodes if node.op_type == "Concat")
    return [v for v in join.inputs if v is not None], join.outputs[0], plan


@pytest.mark.parametrize("last", [LANES, 3])
def test_whole_blocks_are_written_in_place(last: int) -> None:
    parts, whole, plan = concatenation(2 * LANES, LANES, last)
    assert [plan.slices[part] for part in parts] == [(whole, 0), (whole, 2 * LANES), (whole, 3 * LANES)]
    assert plan.stagings == {}
    assert plan.halos == {whole: (1, 1)}


def test_parts_of_blocks_go_to_a_staging() -> None:
    parts, whole, plan = concatenation(3, LANES, LANES - 1)
    staging = plan.stagings[whole]
    assert [plan.slices[part] for part in parts] == [(staging, 0), (staging, LANES), (staging, 2 * LANES)]
    assert staging.static_shape == (1, 3 * LANES, 4, 4)
    assert staging in plan.blocked
    assert plan.root(parts[2]) == (staging, 2 * LANES)
    assert [whole_blocks(part) for part in parts] == [LANES, LANES, LANES]


def test_nested_concatenations_share_one_memory() -> None:
    b = Builder()
    pools = [b("MaxPool", b.input(1, LANES, 5, 5), kernel_shape=[2, 2]) for _ in range(3)]
    inner = b("Concat", pools[0], pools[1], axis=1)
    outer = b("Concat", pools[2], inner, axis=1)
    graph, plan = planned(b, b("Sigmoid", inner), b("MaxPool", outer, kernel_shape=[2, 2]))
    values = {value.name: value for node in graph.nodes for value in node.outputs}
    whole = values[outer.name]
    assert [plan.root(values[pool.name]) for pool in pools] == [(whole, LANES), (whole, 2 * LANES), (whole, 0)]
    assert plan.root(values[inner.name]) == (whole, LANES)


def test_a_value_has_its_place_in_one_concatenation_only() -> None:
    b = Builder()
    x, y = (b("MaxPool", b.input(1, LANES, 5, 5), kernel_shape=[2, 2]) for _ in range(2))
    graph, plan = planned(b, b("Concat", x, y, x, axis=1), b("Concat", y, x, axis=1))
    first = next(node for node in graph.nodes if node.op_type == "Concat")
    assert [plan.slices[v] for v in first.inputs[:2] if v] == [(first.outputs[0], 0), (first.outputs[0], LANES)]
    assert len(plan.slices) == 2


def test_inputs_and_constants_are_not_written_in_place() -> None:
    b = Builder()
    x = b.input(1, LANES, 4, 4)
    pool = b("MaxPool", b.input(1, LANES, 5, 5), kernel_shape=[2, 2])
    graph, plan = planned(b, b("Concat", x, b.weights(1, LANES, 4, 4), pool, axis=1))
    join = graph.nodes[-1]
    assert plan.slices == {join.inputs[2]: (join.outputs[0], 2 * LANES)}


def test_other_axes_are_plain() -> None:
    b = Builder()
    x, y = (b("MaxPool", b.input(1, LANES, 5, 5), kernel_shape=[2, 2]) for _ in range(2))
    graph, plan = planned(b, b("Concat", x, y, axis=2))
    assert graph.nodes[-1].outputs[0] not in plan.blocked
    assert plan.slices == {}
