"""Gemm and MatMul become FullyConnected where the weights are constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, kinds, node_of, optimise

from cpuruntime import passes
from cpuruntime.errors import ModelError
from cpuruntime.graph import Value

NAME = "fully_connected"


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (2, 3, 5, 4)])
def test_a_product_with_constant_weights(shape: tuple[int, ...]) -> None:
    b = Builder()
    w = b.weights(4, 6)
    after = optimise(b.graph(b("MatMul", b.input(*shape), w)), NAME)
    assert kinds(after) == ["+FullyConnected"]
    node = after.nodes[0]
    assert node.inputs[1].constant is w.constant
    assert node.inputs[2:] == [None, None]


def test_other_products_stay() -> None:
    b = Builder()
    b.output(b("MatMul", b.input(2, 3), b.input(3, 4)), b("MatMul", b.input(3), b.weights(3, 4)))
    b.output(b("MatMul", b.weights(2, 3), b.input(3, 4)), b("MatMul", b.input(2, 5, 3), b.weights(2, 3, 4)))
    b.output(b("MatMul", b.input(2, 3, dtype=np.float64), b.constant(np.ones((3, 4)), np.float64)))
    b.output(b("Gemm", b.input(2, 3, dtype=np.float64), b.constant(np.ones((3, 4)), np.float64)))
    assert kinds(optimise(b.graph(), NAME)) == ["MatMul"] * 6


@pytest.mark.parametrize("turns", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1}])
@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,), (1, 1), ()])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
def test_gemm(turns: dict[str, int], bias: tuple[int, ...] | None, factors: dict[str, float]) -> None:
    b = Builder()
    x = b.input(*((3, 2) if turns.get("transA") else (2, 3)))
    w = b.weights(*((4, 3) if turns.get("transB") else (3, 4)))
    c = [] if bias is None else [b.weights(*bias)]
    after = optimise(b.graph(b("Gemm", x, w, *c, **turns, **factors)), NAME)
    assert kinds(after) == ["Transpose", "+FullyConnected"][not turns.get("transA") :]
    node = node_of(after, "FullyConnected")
    assert node.inputs[1].shape == (3, 4)
    assert (node.inputs[2] is None) == (bias is None or factors.get("beta") == 0)
    assert node.inputs[2] is None or node.inputs[2].shape == (4,)


def test_transposed_weights_are_not_copied() -> None:
    b = Builder()
    w = b.weights(4, 3)
    after = optimise(b.graph(b("Gemm", b.input(2, 3), w, transB=1)), NAME)
    assert np.shares_memory(after.nodes[0].inputs[1].constant, w.constant)


@pytest.mark.parametrize("factors", [{}, {"beta": 0.25}])
@pytest.mark.parametrize("kind", ["matrix", "column", "data", "data row"])
def test_a_c_that_is_no_bias_is_added(kind: str, factors: dict[str, float]) -> None:
    b = Builder()
    x = b.input(2, 3)
    makers: dict[str, Any] = {
        "matrix": lambda: b.weights(2, 4),
        "column": lambda: b.weights(2, 1),
        "data": lambda: b.input(2, 4),
        "data row": lambda: b.input(4),
    }
    after = optimise(b.graph(b("Gemm", x, b.weights(3, 4), makers[kind](), **factors)), NAME)
    assert kinds(after) == ["+FullyConnected", "Mul", "Add"] if factors else ["+FullyConnected", "Add"]
    assert len({node.name for node in after.nodes}) == len(after.nodes)
    assert {origin for node in after.nodes for origin in node.origins} == {"n0"}


@pytest.mark.parametrize("turns", [{}, {"transA": 1}, {"transB": 1}])
@pytest.mark.parametrize("addend", [False, True])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5}, {"alpha": 0.5, "beta": 2.0}])
def test_gemm_of_two_activations(turns: dict[str, int], addend: bool, factors: dict[str, float]) -> None:
    b = Builder()
    x = b.input(*((3, 2) if turns.get("transA") else (2, 3)))
    w = b.input(*((4, 3) if turns.get("transB") else (3, 4)))
    after = optimise(b.graph(b("Gemm", x, w, *[b.weights(4)] * addend, **turns, **factors)), NAME)
    expected = ["Transpose"] * len(turns) + ["MatMul"] + ["Mul"] * ("alpha" in factors)
    assert kinds(after) == expected + ["Mul"] * (addend and "beta" in factors) + ["Add"] * addend
    assert len({node.name for node in after.nodes}) == len(after.nodes)


def test_inner_sizes_must_agree() -> None:
    b = Builder()
    graph = b.graph(b("MatMul", b.input(2, 3), b.weights(3, 4)))
    graph.nodes[0].inputs[1] = Value.of("w", np.ones((5, 4), np.float32))
    with pytest.raises(ModelError, match=r"MatMul 'n0' .* have 3 elements, the weights take 5"):
        passes.run(graph)
