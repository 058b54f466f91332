"""What depends on no input is computed at compile time, within limits."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime import passes
from cpuruntime.errors import ModelError
from cpuruntime.graph import Graph, Type, Value
from cpuruntime.operators.evaluation_work import evaluation_work
from cpuruntime.passes.simplify import constant_folding

NAME = "constant_folding"


def test_what_reads_only_constants_becomes_a_constant() -> None:
    b = Builder()
    total = b("Add", b("Transpose", b.weights(3, 4), perm=[1, 0]), b.weights(4, 3))
    after = optimise(b.graph(b("Mul", b.input(4, 3), total)), NAME)
    assert kinds(after) == ["Mul"]
    assert after.nodes[0].inputs[1].constant.shape == (4, 3)


def test_chains_fold_in_one_sweep_and_outputs_keep_their_names() -> None:
    b = Builder()
    x = b.weights(2, 3)
    for _ in range(5):
        x = b("Exp", b("Neg", x))
    after = optimise(b.graph(x, b("Relu", b.input(1))), NAME)
    assert kinds(after) == ["Relu"]
    assert after.outputs[0].name == "n9_Exp"
    assert after.outputs[0].constant.shape == (2, 3)


@pytest.mark.parametrize("attributes", [{}, {"start": 1}, {"start": -2, "end": -1}])
def test_shapes_of_static_values_are_constants(attributes: dict[str, int]) -> None:
    b = Builder(opset=15)
    x = b.input(2, 3, 5)
    after = optimise(b.graph(b("Shape", x, **attributes), b("Size", x)), NAME)
    assert kinds(after) == []
    expected = (2, 3, 5)[slice(attributes.get("start"), attributes.get("end"))]
    assert after.outputs[0].constant.tolist() == list(expected)
    assert after.outputs[1].constant == 30


def test_shapes_that_are_not_known_stay() -> None:
    b = Builder(opset=15)
    x = b.input(None, 3)
    after = optimise(b.graph(b("Shape", x), b("Shape", x, start=1)), NAME)
    assert kinds(after) == ["Shape"]
    assert after.outputs[1].constant.tolist() == [3]


def test_the_target_of_a_reshape_made_from_a_shape_folds() -> None:
    b = Builder()
    x = b.input(4, 3, 2)
    rows = b("Unsqueeze", b("Gather", b("Shape", x), b.constant(0, np.int64), axis=0), b.integers(0))
    target = b("Concat", rows, b.integers(-1), axis=0)
    after = optimise(b.graph(b("Reshape", x, target)), NAME)
    assert kinds(after) == ["Reshape"]
    assert after.nodes[0].inputs[1].constant.tolist() == [4, -1]


def test_shapes_become_known_when_constants_do() -> None:
    """A graph whose shapes nobody has inferred after its input got a static shape."""
    b = Builder()
    x = b.input(None, 6)
    target = b("Concat", b("Shape", x), b.integers(1), axis=0)
    graph = b.graph(b("Shape", b("Relu", b("Reshape", x, target))))
    x.shape = (5, 6)
    after = passes.run(graph, stop_after=NAME)
    assert kinds(after) == []
    assert after.outputs[0].constant.tolist() == [5, 6, 1]


def test_constant_of_shape_takes_no_memory() -> None:
    b = Builder()
    filled = b("ConstantOfShape", b.integers(1 << 15, 1 << 15), value=np.array([2.5], np.float32))
    after = passes.run(b.graph(filled, b("Relu", b.input(1))), stop_after=NAME)
    array = after.outputs[0].constant
    assert array.shape == (1 << 15, 1 << 15)
    assert array.strides == (0, 0)
    assert not array.flags.writeable
    assert array[-1, -1] == np.float32(2.5)


def test_a_result_that_explodes_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    graph = b.graph(b("Tile", b.weights(8, 8), b.integers(4, 4)), b("Relu", b.weights(32, 32)), b("Neg", b.input(1)))
    monkeypatch.setattr(constant_folding, "LARGEST_RESULT", 1024)
    assert kinds(optimise(graph, NAME)) == ["Tile", "Neg"]
    monkeypatch.setattr(constant_folding, "LARGEST_RESULT", 4096)
    assert kinds(optimise(graph, NAME)) == ["Neg"]


def test_a_growing_result_of_unknown_size_is_left_to_the_run() -> None:
    b = Builder()
    graph = b.graph(b("Expand", b.weights(1, 1), b.integers(3, 3)), b("Relu", b.input(1)))
    graph.nodes[0].outputs[0].shape = None
    assert not constant_folding.constant_results(graph.nodes[0], constant_folding.Budget(graph))


def test_the_results_of_a_graph_have_a_budget_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """At commit 53c12cb each result had a limit, and any number of them was computed."""
    b = Builder()
    x = b.weights(16, 16)
    graph = b.graph(*(b("Concat", x, x, axis=0) for _ in range(16)), b("Neg", b.input(1)))
    monkeypatch.setattr(constant_folding, "RESULTS", 16 << 10)
    assert kinds(optimise(graph, NAME)) == ["Concat"] * 6 + ["Neg"]  # 10 of 2 KiB fit into 16 KiB + 4 * 1 KiB


def test_the_work_for_a_graph_has_a_budget() -> None:
    """At commit 53c12cb each of these products took 9 seconds."""
    b = Builder()
    x = b.constant(np.ones((1500, 1500), np.int64), np.int64)
    graph = b.graph(b("MatMul", x, x), b("Neg", b.input(1)))
    assert kinds(passes.run(graph, stop_after=NAME)) == ["MatMul", "Neg"]


@pytest.mark.parametrize("equation", ["ab,cd,ef->abcdef", "a...,b...->ab"])
def test_the_work_of_an_einsum_is_that_of_all_its_letters(equation: str) -> None:
    b = Builder()
    values = [b.weights(60, 60) for _ in equation.partition("->")[0].split(",")]
    node = b.graph(b("Einsum", *values, equation=equation)).nodes[0]
    assert evaluation_work(node) >= 60 ** (6 if "c" in equation else 3)


def test_steps_of_a_recurrence_count() -> None:
    """At commit 53c12cb a constant sequence of 300000 steps compiled for more than 12 seconds."""
    b = Builder()
    y = b("LSTM", b.weights(300_000, 1, 1), b.weights(1, 4, 1), b.weights(1, 4, 1), hidden_size=1)
    assert kinds(passes.run(b.graph(y, b("Neg", b.input(1))), stop_after=NAME)) == ["LSTM", "Neg"]


@pytest.mark.parametrize(
    ("op_type", "count", "attributes"),
    [("RandomNormalLike", 1, {}), ("RandomUniformLike", 1, {}), ("Bernoulli", 1, {}), ("Dropout", 2, {})],
)
def test_random_numbers_are_drawn_at_run_time(op_type: str, count: int, attributes: dict[str, int]) -> None:
    b = Builder(opset=15)
    graph = b.graph(b.many(count, op_type, b.positive(4), **attributes)[0])
    assert kinds(passes.run(graph, stop_after=NAME)) == [op_type]


def test_nothing_is_folded_into_an_array_of_another_type() -> None:
    b = Builder()
    graph = b.graph(b("Neg", b.weights(3)))
    graph.outputs[0].element_type = Type.f64
    assert kinds(passes.run(graph, stop_after=NAME)) == ["Neg"]


def test_an_operator_without_an_evaluator_stays() -> None:
    b = Builder()
    graph = b.graph(b("Relu", b.weights(3)))
    graph.nodes[0].op_type = "NotAnOperator"
    assert kinds(passes.run(graph, stop_after=NAME)) == ["NotAnOperator"]


def test_a_node_that_refuses_its_constants_is_named() -> None:
    b = Builder()
    x = b.constant(np.zeros((2, 3)))
    graph = b.graph(b("Reshape", x, b.integers(3, 2)))
    graph.nodes[0].inputs[1] = Value.of("target", np.array([4, 2]))
    graph.outputs[0].shape = (4, 2)
    with pytest.raises(ModelError, match=r"Reshape 'n0' .*found by the pass 'constant_folding'"):
        passes.run(graph)


def test_the_graph_given_keeps_its_constants_and_nodes() -> None:
    b = Builder()
    graph = b.graph(b("Neg", b.weights(3)))
    passes.run(graph)
    assert isinstance(graph, Graph)
    assert graph.outputs[0].constant is None
    assert graph.nodes[0].outputs[0].producer is graph.nodes[0]
