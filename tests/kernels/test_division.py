"""Threads divide images by rows or by channels: any number of them computes the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.programs import GuardedProgram, activation, random_array
from support.quantised import constant, numbers

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.host.caches import caches
from cpuruntime.host.memory import ALIGNMENT
from cpuruntime.program.plan.division import by_rows, rows_together
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.weights import WeightStore

pytestmark = pytest.mark.every_isa

THREADS = (2, 3, 4, 8)
SIZES = [(1, 30, 31), (2, 13, 29), (1, 7, 7), (3, 3, 5)]
"""Batch, height and width: odd, of more threads than rows, divided by rows and by channels."""
CHANNELS, WIDE = LANES, 2 * LANES + 3


def _layers(x: Value, type: Type, make: Any) -> tuple[Graph, list[Node]]:
    """A product of all channels, a depthwise convolution and a product."""
    batch, _, height, width = x.static_shape
    nodes, source = [], x
    for index, (channels, kernel, group) in enumerate(((WIDE, 1, 1), (WIDE, 3, WIDE), (CHANNELS, 1, 1))):
        target = Value(f"v{index}", type, (batch, channels, height, width))
        window = dict(kernel_shape=[kernel] * 2, strides=[1, 1], dilations=[1, 1], pads=[kernel // 2] * 4, group=group)
        shape = (channels, source.static_shape[1] // group, kernel, kernel)
        nodes.append(make(index, source, target, shape, window))
        source = target
    return Graph("layers", [x], [source], nodes), nodes


def _floats(index: int, source: Value, target: Value, shape: tuple[int, ...], window: dict[str, Any]) -> Node:
    weights = constant(f"w{index}", random_array(shape, index))
    return Node("Conv", f"c{index}", [source, weights], [target], window, "cpuruntime", 1)


def _bytes(index: int, source: Value, target: Value, shape: tuple[int, ...], window: dict[str, Any]) -> Node:
    inputs = [source, constant(f"w{index}", numbers("i1", shape)), constant(f"m{index}", np.full(shape[0], 3e-3, "f4"))]
    attributes = dict(**window, x_zero=3, weights_zero=[], y_zero=3, low=0, high=255)
    return Node("QuantisedConvolution", f"c{index}", inputs, [target], attributes, "cpuruntime", 1)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("floats", [True, False], ids=["floats", "bytes"])
def test_any_number_of_threads_computes_the_same_bits(size: tuple[int, int, int], floats: bool) -> None:
    batch, height, width = size
    shape = (batch, CHANNELS, height, width)
    data = random_array(shape) if floats else numbers("u1", shape)
    results = set()
    for threads in (1, *THREADS):
        x = activation("x", shape) if floats else Value("x", Type.u8, shape)
        graph, _ = _layers(x, x.element_type, _floats if floats else _bytes)
        results.add(GuardedProgram(graph, threads=threads).run_all(data, threads=threads)[0].tobytes())
    assert len(results) == 1


def test_each_thread_works_at_a_place_of_its_own() -> None:
    graph, _ = _layers(Value("x", Type.u8, (1, CHANNELS, 30, 31)), Type.u8, _bytes)
    planner = Planner(graph, WeightStore(), threads=3)
    steps = [step for step in planner.plan() if isinstance(step, Step) and "scratch" in step.arguments]
    assert len(steps) == 3
    assert len({step.arguments["scratch"] for step in steps}) == 1
    (size,) = {step.arguments["scratch_size"] for step in steps}
    assert size % ALIGNMENT == 0
    assert size <= caches().second // 2
    assert steps[0].arguments["scratch"].storage.size == 3 * size


def _image(size: int, group: int = 1) -> Value:
    """What a convolution makes."""
    x, y = (activation(name, (1, CHANNELS, size, size)) for name in "xy")
    Node("Conv", "c", [x], [y], dict(group=group), "cpuruntime", 1)
    return y


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("height", [1, 2, 7, 14, 15, 56, 112])
def test_rows_are_shared_evenly(height: int, threads: int) -> None:
    value = _image(height)
    divided = by_rows(value, threads)
    for most in (0, 1, 3, 40):
        rows = rows_together(value, height, threads, most)
        assert 1 <= rows <= (most or height)
        if divided:
            assert rows <= -(-height // threads)
        elif not most:
            assert rows == height
    assert divided <= (height >= 2 * threads)


def test_what_threads_divide_by_rows() -> None:
    assert by_rows(_image(112), 2)
    assert not by_rows(_image(112), 1)
    assert not by_rows(_image(112, group=2), 2)
    assert not by_rows(activation("x", (1, CHANNELS, 112, 112)), 2)
    assert not by_rows(_image(7), 2)


def test_a_concatenation_is_divided_like_its_parts() -> None:
    for parts, expected in (([_image(112), _image(112, group=2)], True), ([_image(112, group=2)] * 2, False)):
        whole = activation("whole", (1, 2 * CHANNELS, 112, 112))
        Node("Concat", "c", parts, [whole], dict(axis=1))
        assert by_rows(whole, 2) == expected
