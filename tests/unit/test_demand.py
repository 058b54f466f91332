"""What models ask of a machine, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import cpuruntime as ov
from cpuruntime import passes
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.operators.demand import Demand, NodeDemand, demand_of
from cpuruntime.operators.traits import DOMAIN


def value(name: str, *shape: int | None) -> Value:
    return Value(name, Type.f32, shape)


def constant(name: str, *shape: int) -> Value:
    return Value.of(name, np.zeros(shape, np.float32))


def demand(op_type: str, inputs: list[Value | None], outputs: list[Value], **attributes: object) -> NodeDemand:
    domain = DOMAIN if op_type in ("Attention", "FullyConnected") else ""
    node = Node(op_type, "n", inputs, outputs, attributes, domain)  # type: ignore[arg-type]
    (found,) = demand_of(Graph("g", [v for v in inputs if v and v.constant is None], outputs, [node])).nodes
    return found


@pytest.mark.parametrize(
    ("op_type", "inputs", "output", "multiply_adds"),
    [
        ("Conv", [value("x", 2, 8, 6, 6), constant("w", 16, 8, 3, 3), constant("b", 16)], (2, 16, 4, 4), 512 * 72),
        ("Conv", [value("x", 1, 8, 5, 5), constant("w", 8, 1, 3, 3)], (1, 8, 3, 3), 72 * 9),
        ("ConvTranspose", [value("x", 1, 4, 5, 5), constant("w", 4, 6, 2, 2)], (1, 6, 10, 10), 100 * 24),
        ("MatMul", [value("x", 3, 4, 5), value("y", 3, 5, 7)], (3, 4, 7), 84 * 5),
        ("MatMul", [value("x", 5), value("y", 5)], (), 5),
        ("FullyConnected", [value("x", 2, 3, 5), constant("w", 15, 7)], (2, 7), 14 * 15),
        ("Gemm", [value("x", 4, 5), constant("w", 5, 7), constant("c", 7)], (4, 7), 28 * 5),
        ("GRU", [value("x", 5, 2, 3), constant("w", 1, 12, 3), constant("r", 1, 12, 4)], (5, 1, 2, 4), 10 * 84),
    ],
)
def test_products(op_type: str, inputs: list[Value | None], output: tuple[int, ...], multiply_adds: int) -> None:
    found = demand(op_type, inputs, [value("y", *output)])
    assert found.flops == 2 * multiply_adds
    elements = sum(int(np.prod(v.static_shape)) for v in inputs if v and v.constant is None) + int(np.prod(output))
    assert found.activations == 4 * elements
    assert found.weights == sum(v.constant.nbytes for v in inputs if v and v.constant is not None)
    assert found.working_set == found.activations + found.weights


def test_the_passes_transposed_convolution_has_its_outputs_first() -> None:
    inputs: list[Value | None] = [value("x", 1, 4, 5, 5), constant("w", 6, 2, 2, 2)]
    node = Node("ConvTranspose", "n", inputs, [value("y", 1, 6, 10, 10)], {"group": 2}, DOMAIN)
    (found,) = demand_of(Graph("g", inputs[:1], node.outputs, [node])).nodes  # type: ignore[arg-type]
    assert found.flops == 2 * 100 * 3 * 4


@pytest.mark.parametrize(("equation", "multiply_adds"), [("bij,jk->bik", 120), ("b..., ...k->b...k", 120)])
def test_einsum(equation: str, multiply_adds: int) -> None:
    inputs: list[Value | None] = [value("x", 2, 3, 4), value("y", 4, 5)]
    assert demand("Einsum", inputs, [value("z", 2, 3, 5)], equation=equation).flops == 2 * multiply_adds


def test_a_transposed_operand_of_gemm() -> None:
    assert demand("Gemm", [value("x", 5, 4), constant("w", 5, 7)], [value("y", 4, 7)], transA=1).flops == 2 * 28 * 5


def test_attention() -> None:
    sizes = dict(batch=2, heads=3, queries=4, keys=5, depth=6, width=7)
    inputs: list[Value | None] = [value(name, 2, 4, 18) for name in "qkv"]
    assert demand("Attention", inputs, [value("y", 2, 4, 21)], **sizes).flops == 2 * 2 * 3 * 4 * 5 * 13


def test_elementwise_nodes_count_once_for_each_element() -> None:
    twice = value("x", 3, 4)
    found = demand("Add", [twice, twice], [value("y", 3, 4)])
    assert (found.flops, found.activations) == (12, 2 * 48), "a value read twice is one value"
    mask = Value("y", Type.boolean, (3, 4))
    assert demand("Less", [twice, constant("c")], [mask]).activations == 48 + 12


def test_views_cost_nothing_and_open_shapes_are_not_guessed() -> None:
    x, y, z, w = value("x", 2, 3), value("y", 6), value("z", None), value("w", None)
    nodes = [Node("Reshape", "r", [x], [y]), Node("Relu", "s", [z], [w])]
    assert demand_of(Graph("g", [x, z], [y, w], nodes)) == Demand((), 1)


def test_the_whole_model() -> None:
    found = demand_of(passes.run(ov.Core().read_model(ov.light_model("squeezenet")).graph))
    assert found.unknown == 0
    assert found.flops == pytest.approx(0.70e9, rel=0.02)
    assert found.weights == pytest.approx(4 * 1.235e6, rel=0.01)
    assert found.largest is not None
    assert found.largest.working_set == max(node.working_set for node in found.nodes)
    assert found.activations == sum(node.activations for node in found.nodes)


def test_nothing() -> None:
    assert (Demand().flops, Demand().weights, Demand().activations, Demand().largest) == (0, 0, 0, None)


@pytest.mark.parametrize(("op_type", "gates", "layout"), [("LSTM", 4, 0), ("GRU", 3, 1), ("RNN", 1, 0)])
def test_recurrent_operators_read_their_weights_at_every_step(op_type: str, gates: int, layout: int) -> None:
    shape = (100, 2, 8) if layout == 0 else (2, 100, 8)
    inputs: list[Value | None] = [value("x", *shape), constant("w", 1, gates * 16, 8), constant("r", 1, gates * 16, 16)]
    found = demand(op_type, inputs, [value("y", 100, 1, 2, 16)], layout=layout)
    assert found.weight_reads == 100
    assert Demand((found,)).is_for_weights, "two rows a step are few for so many weights"
    assert demand("MatMul", [value("a", 200, 24), constant("b", 24, 64)], [value("c", 200, 64)]).weight_reads == 1


def test_a_few_large_weights_are_worth_a_try_and_many_operations_are_not() -> None:
    layer = NodeDemand("fc", "Gemm", flops=2_000_000, activations=8_000, weights=4_000_000)
    convolution = NodeDemand("conv", "Conv", flops=200_000_000, activations=800_000, weights=100_000)
    assert Demand((layer,)).is_for_weights
    assert not Demand((convolution,)).is_for_weights
    assert not Demand((convolution, layer)).is_for_weights
    assert Demand((convolution, layer, layer, layer)).is_for_weights
