"""Batch normalisation and per-channel arithmetic end in weights or in one ScaleShift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Builder, kinds, node_of, optimise

from cpuruntime import passes
from cpuruntime.graph import Value

NAME = "channel_arithmetic"
Make = Callable[[Builder, Value], Value]

STEPS: dict[str, Make] = {
    "BatchNormalization": lambda b, x: b.norm(x, 4),
    "epsilon": lambda b, x: b.norm(x, 4, epsilon=0.5),
    "Mul [C,1,1]": lambda b, x: b("Mul", x, b.weights(4, 1, 1)),
    "Mul [1,C,1,1] on the left": lambda b, x: b("Mul", b.weights(1, 4, 1, 1), x),
    "Mul by a number": lambda b, x: b("Mul", x, b.constant(3.0)),
    "Add [C,1,1]": lambda b, x: b("Add", x, b.weights(4, 1, 1)),
    "Add of [1]": lambda b, x: b("Add", b.constant([2.0]), x),
    "Sub": lambda b, x: b("Sub", x, b.weights(4, 1, 1)),
    "Sub from": lambda b, x: b("Sub", b.weights(4, 1, 1), x),
    "Div": lambda b, x: b("Div", x, b.positive(1, 4, 1, 1)),
    "Neg": lambda b, x: b("Neg", x),
    "all": lambda b, x: b(
        "Add",
        b("Mul", b("Sub", b.constant(1.0), b("Div", b.norm(x, 4), b.positive(4, 1, 1))), b.weights(4, 1, 1)),
        b.weights(1),
    ),
}


@pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_into_the_convolution(make: Make, bias: bool, group: int) -> None:
    b = Builder()
    parameters = [b.weights(4, 4 // group, 3, 3), *[b.weights(4)] * bias]
    x = b("Conv", b.input(2, 4, 5, 6), *parameters, group=group)
    graph = b.graph(make(b, x))
    after = optimise(graph, NAME)
    assert kinds(after) == ["+Conv"]
    assert after.nodes[0].name == "n0"
    assert after.nodes[0].origins == [node.name for node in graph.nodes]
    assert after.outputs[0].name == graph.outputs[0].name


@pytest.mark.parametrize("rank", [1, 3])
def test_into_convolutions_of_other_ranks(rank: int) -> None:
    b = Builder()
    x = b("Conv", b.input(2, 3, *[4] * rank), b.weights(4, 3, *[2] * rank))
    assert kinds(optimise(b.graph(b("Mul", b.norm(x, 4), b.weights(4, *[1] * rank))), NAME)) == ["+Conv"]


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_every_batch_normalization_of_inference(opset: int) -> None:
    b = Builder(opset)
    x = b("Conv", b.input(2, 3, 5, 5), b.weights(4, 3, 3, 3))
    assert kinds(optimise(b.graph(b.norm(x, 4)), NAME)) == ["+Conv"]


def test_into_the_product() -> None:
    b = Builder()
    x = b("MatMul", b.input(2, 5, 3), b.weights(3, 4))
    y = b("Mul", b("Add", x, b.weights(4)), b.weights(1, 4))
    after = optimise(b.graph(y), NAME)
    assert kinds(after) == ["+FullyConnected"]
    assert after.nodes[0].inputs[2].shape == (4,)


def test_a_bias_alone_leaves_the_weights_as_they_are() -> None:
    b = Builder()
    w = b.weights(4, 3, 1, 1)
    after = optimise(b.graph(b("Add", b("Conv", b.input(2, 3, 5, 5), w), b.weights(4, 1, 1))), NAME)
    assert after.nodes[0].inputs[1].constant is w.constant


def test_a_product_alone_adds_no_bias() -> None:
    b = Builder()
    x = b("Conv", b.input(2, 3, 5, 5), b.weights(4, 3, 1, 1))
    assert optimise(b.graph(b("Mul", x, b.weights(4, 1, 1))), NAME).nodes[0].inputs[2] is None


def test_shared_weights_are_not_changed_for_others() -> None:
    b = Builder()
    x, w, bias = b.input(2, 4, 5, 5), b.weights(4, 4, 1, 1), b.weights(4)
    first, second, third = (b("Conv", x, w, bias) for _ in range(3))
    graph = b.graph(b.norm(first, 4), b.norm(second, 4), third)
    kept = w.constant.copy()
    after = optimise(graph, NAME)
    assert kinds(after) == ["+Conv"] * 3
    assert np.array_equal(w.constant, kept)
    assert len({node.inputs[1].name for node in after.nodes}) == 3
    assert after.nodes[2].inputs[1].constant is w.constant


def test_weights_without_memory() -> None:
    """Filled weights, as in models that are shipped without theirs."""
    b = Builder()
    w = b("ConstantOfShape", b.integers(4, 3, 2, 2), value=np.array([0.5], np.float32))
    after = optimise(b.graph(b.norm(b("Conv", b.input(1, 3, 4, 4), w), 4)), NAME)
    assert kinds(after) == ["+Conv"]


def test_batch_normalization_on_its_own() -> None:
    b = Builder()
    x = b("Relu", b.input(2, 4, 5, 6))
    after = optimise(b.graph(b.norm(x, 4)), NAME)
    assert kinds(after) == ["Relu", "+ScaleShift"]
    assert [value.shape for value in after.nodes[1].inputs] == [(2, 4, 5, 6), (4,), (4,)]


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 3, 2, 2)])
def test_chains_of_any_rank(shape: tuple[int, ...]) -> None:
    b = Builder()
    ones = [1] * (len(shape) - 2)
    y = b("Add", b("Mul", b.norm(b.input(*shape), 4), b.weights(4, *ones)), b.weights(1, 4, *ones))
    after = optimise(b.graph(b.norm(y, 4)), NAME)
    assert kinds(after) == ["+ScaleShift"]
    assert after.nodes[0].origins == ["n0", "n1", "n2", "n3"]


def test_per_channel_arithmetic_on_its_own() -> None:
    b = Builder()
    x = b.input(2, 4, 5, 6)
    after = optimise(
        b.graph(b("Mul", x, b.weights(4, 1, 1)), b("Add", b("Mul", x, b.constant(2.0)), b.constant(1.0))), NAME
    )
    assert kinds(after) == ["+ScaleShift", "+ScaleShift"]


def test_a_single_operation_with_a_number_is_elementwise_already() -> None:
    b = Builder()
    x = b.input(2, 4, 5, 6)
    after = optimise(b.graph(b("Mul", x, b.constant(2.0)), b("Neg", x), b("Div", x, b.constant([3.0]))), NAME)
    assert kinds(after) == ["Mul", "Neg", "Div"]


def test_a_convolution_that_others_read_stays() -> None:
    b = Builder()
    x = b("Conv", b.input(2, 3, 5, 5), b.weights(4, 3, 1, 1))
    after = optimise(b.graph(b.norm(x, 4), b("Exp", x)), NAME)
    assert kinds(after) == ["+Conv", "+ScaleShift", "Exp"]


def test_a_chain_ends_where_others_read_it() -> None:
    b = Builder()
    x = b.norm(b("Conv", b.input(2, 3, 5, 5), b.weights(4, 3, 1, 1)), 4)
    after = optimise(b.graph(b("Mul", x, b.weights(4, 1, 1)), b("Exp", x)), NAME)
    assert kinds(after) == ["+Conv", "+ScaleShift", "Exp"]


def test_an_output_inside_a_chain_stays() -> None:
    b = Builder()
    x = b("Conv", b.input(2, 3, 5, 5), b.weights(4, 3, 1, 1))
    y = b.norm(x, 4)
    after = optimise(b.graph(y, b("Mul", y, b.weights(4, 1, 1)), x), NAME)
    assert kinds(after) == ["+Conv", "+ScaleShift", "+ScaleShift"]


def test_a_normalization_of_rows_behind_a_product_of_higher_rank() -> None:
    b = Builder()
    x = b("MatMul", b.input(2, 5, 3), b.weights(3, 4))
    after = optimise(b.graph(b.norm(x, 5)), NAME)
    assert kinds(after) == ["+FullyConnected", "+ScaleShift"]


OTHERS: dict[str, Make] = {
    "other axis": lambda b, x: b("Mul", x, b.weights(6)),
    "broadcast up": lambda b, x: b("Mul", x, b.weights(1, 1, 4, 1, 1)),
    "a number that adds an axis": lambda b, x: b("Mul", x, b.constant([[[[[2.0]]]]])),
    "whole": lambda b, x: b("Add", x, b.weights(2, 4, 5, 6)),
    "divided by 0": lambda b, x: b("Div", x, b.constant([0.0])),
    "dividing": lambda b, x: b("Div", b.weights(4, 1, 1), x),
    "data": lambda b, x: b("Mul", x, b.input(4, 1, 1)),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_arithmetic_stays(make: Make) -> None:
    b = Builder()
    x = b("Conv", b.input(2, 3, 5, 6), b.weights(4, 3, 1, 1))
    with np.errstate(all="ignore"):
        after = optimise(b.graph(make(b, x)), NAME)
    assert after.nodes[0].op_type == "Conv"
    assert len(after.nodes) == 2


@pytest.mark.parametrize("kind", ["training", "old training", "not spatial", "f64"])
def test_other_normalizations_stay(kind: str) -> None:
    b = Builder({"training": 15, "not spatial": 7}.get(kind, 9))
    dtype = np.float64 if kind == "f64" else np.float32
    x = b.input(2, 4, 3, dtype=dtype)
    ones = np.ones((4, 3) if kind == "not spatial" else 4)
    parameters = [b.constant(ones, dtype) for _ in range(4)]
    attributes = {"training": {"training_mode": 1}, "not spatial": {"spatial": 0}}.get(kind, {})
    count = {"training": 3, "old training": 5}.get(kind, 1)
    graph = b.graph(b.many(count, "BatchNormalization", x, *parameters, **attributes)[0])
    assert kinds(passes.run(graph, stop_after=NAME)) == ["BatchNormalization"]


def test_the_sums_are_done_in_double_precision() -> None:
    b = Builder()
    x = b("Conv", b.input(1, 1, 2, 2), b.constant(np.ones((1, 1, 1, 1))))
    y = b("Add", b("Sub", x, b.constant(1e8)), b.constant(1e8))
    y = b("Add", y, b.constant(0.25))
    after = passes.run(b.graph(y), stop_after=NAME)
    assert node_of(after, "Conv").inputs[2].constant.tolist() == [0.25]
