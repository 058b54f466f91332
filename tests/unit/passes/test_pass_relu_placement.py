"""Relu goes where nothing is negative, and moves to before a Concat."""

from __future__ import annotations

import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime import passes

NAME = "relu_placement"


@pytest.mark.parametrize(
    "names",
    [["Relu"], ["Sigmoid"], ["Abs"], ["Exp", "GlobalAveragePool"], ["Relu", "Flatten"], ["Relu", "Transpose", "Exp"]],
)
def test_relu_of_what_is_never_negative_goes(names: list[str]) -> None:
    b = Builder()
    x = b.input(2, 3, 4, 4)
    for name in names:
        x = b(name, x)
    graph = b.graph(b("Neg", b("Relu", x)))
    assert "Relu" not in kinds(optimise(graph, NAME))[len(names) :]


@pytest.mark.parametrize("low", [0.0, 0.5])
def test_a_clip_from_0_is_never_negative(low: float) -> None:
    b = Builder()
    y = b("GlobalMaxPool", b("Clip", b.input(1, 2, 3, 3), b.constant(low), b.constant(6.0)))
    assert kinds(optimise(b.graph(b("Relu", y)), NAME)) == ["Clip", "GlobalMaxPool"]


@pytest.mark.parametrize(("pads", "kernel", "left"), [([1, 1], [3], False), ([1, 1], [1], True)])
def test_a_pool_that_sees_padding_alone_gives_the_lowest_number(pads: list[int], kernel: list[int], left: bool) -> None:
    b = Builder()
    y = b("MaxPool", b("Exp", b.input(1, 2, 6)), kernel_shape=kernel, pads=pads)
    after = passes.run(b.graph(b("Relu", y)), stop_after=NAME)  # onnx.reference cannot run it
    assert ("Relu" in kinds(after)) == left


def test_an_output_keeps_its_name() -> None:
    b = Builder()
    after = optimise(b.graph(b("Relu", b("Abs", b.input(2, 3)))), NAME)
    assert kinds(after) == ["Abs"]
    assert after.outputs[0].name == "n1_Relu"


def conv(b: Builder, x: object) -> object:
    return b("Conv", x, b.weights(4, 3, 1, 1))


def test_relu_moves_before_a_concat() -> None:
    """The end of a stage of ShuffleNet: the pool never gives negatives, the convolution applies Relu for nothing."""
    b = Builder()
    x = b("Relu", b.input(1, 3, 4, 4))
    joined = b("Concat", conv(b, x), b("AveragePool", x, kernel_shape=[1, 1]), b.norm(x, 3), axis=1)
    graph = b.graph(b("Relu", joined))
    after = optimise(graph, NAME)
    assert kinds(after) == ["Relu", "+Conv", "AveragePool", "+ScaleShift", "Relu", "Relu", "Concat"]
    assert after.outputs[0].name == graph.outputs[0].name
    assert kinds(optimise(graph)) == ["Relu", "+Conv>Relu", "AveragePool", "+ScaleShift>Relu", "Concat"]


@pytest.mark.parametrize("why", ["an operator that applies none", "read twice", "concat read twice"])
def test_relu_stays_behind_a_concat(why: str) -> None:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    y = conv(b, x)
    joined = b("Concat", y, b("Neg", x) if why == "an operator that applies none" else b("Exp", x), axis=1)
    b.output(b("Relu", joined))
    if why == "read twice":
        b.output(b("Neg", y))
    if why == "concat read twice":
        b.output(b("Neg", joined))
    after = optimise(b.graph(), NAME)
    relu = next(node for node in after.nodes if node.op_type == "Relu")
    assert relu.inputs[0].producer.op_type == "Concat"


def test_a_value_joined_twice() -> None:
    b = Builder()
    y = conv(b, b.input(1, 3, 4, 4))
    assert kinds(optimise(b.graph(b("Relu", b("Concat", y, y, axis=1))), NAME)) == ["+Conv", "Concat", "Relu"]
