"""Elementwise operators that feed each other become one: what is joined, what is not, and how inputs are read."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, node_of, optimise

from cpuruntime import passes
from cpuruntime.graph import Graph
from cpuruntime.ops.fused import INPUTS, text
from cpuruntime.passes.fuse import elementwise_chains


def expression(graph: Graph) -> str:
    return text(node_of(graph, "Elementwise").attributes["expression"])


def test_a_chain_becomes_one() -> None:
    b = Builder()
    x, y = b.input(2, 20, 64), b.input(2, 20, 64)
    graph = optimise(b.graph(b("Mul", b("Mul", x, b("Sigmoid", x)), y)))
    assert kinds(graph) == ["+Elementwise"]
    assert expression(graph) == "Mul(Silu(a), b)"
    assert graph.nodes[0].attributes["views"] == [None, None]
    assert graph.nodes[0].origins == ["n0", "n1", "n2"]


def test_branches_inside_become_one() -> None:
    b = Builder()
    x, y = b.input(2, 20, 64), b.input(1, 20, 1)
    z = b("Add", b("Exp", x), y)
    graph = optimise(b.graph(b("Div", b("Tanh", z), b("Add", b("Abs", z), b.constant(2.0)))))
    assert kinds(graph) == ["+Elementwise"]
    assert expression(graph) == "t1 = Add(Exp(a), b); Div(Tanh(t1), Add(Abs(t1), p0))"


def test_numbers_are_no_inputs_and_equal_ones_are_one() -> None:
    b = Builder()
    x = b.input(64, 64)
    y = b("Sub", b("Tanh", b("Mul", x, b.constant(3.0))), b.constant([3.0]))
    y = b("Max", b("Exp", y), b("LeakyRelu", x, alpha=3.0))
    graph = optimise(b.graph(y))
    assert expression(graph) == "Max(Exp(Sub(Tanh(Mul(a, p0)), p0)), LeakyRelu(a, p0))"
    assert graph.nodes[0].attributes["numbers"] == [3.0]


def test_masks_are_joined() -> None:
    b = Builder()
    x, y, flags = b.input(8, 200), b.input(200), b.input(8, 200, dtype=np.bool_)
    keep = b("And", b("Not", b("Less", x, b.constant(0.25))), flags)
    graph = optimise(b.graph(b("Where", keep, b("Add", x, y), b.constant(-1e4))))
    assert expression(graph) == "Where(And(Not(Less(a, p0)), b), Add(a, c), p1)"


def test_a_mask_of_its_own_and_casts_to_and_from_bool() -> None:
    b = Builder()
    x = b.input(8, 200)
    flags = b("Or", b("Cast", x, to=9), b("Greater", x, b.constant(2.0)))
    b.output(flags)
    graph = optimise(b.graph(b("Mul", b("Cast", b("Xor", flags, b("IsNaN", x)), to=1), x)))
    assert kinds(graph) == ["+Elementwise", "+Elementwise"]
    assert text(graph.nodes[0].attributes["expression"]) == "Or(ToBool(a), Greater(a, p0))"
    assert text(graph.nodes[1].attributes["expression"]) == "Mul(ToFloat(Xor(b, IsNaN(a))), a)"


def test_what_others_need_stays() -> None:
    b = Builder()
    x = b.input(40, 64)
    y = b("Exp", x)
    z = b("Add", y, b.constant(1.0))
    graph = optimise(b.graph(y, b("Softmax", z), b("Tanh", b("Mul", z, x))))
    assert kinds(graph) == ["Exp", "Add", "Softmax", "+Elementwise"]


def test_nothing_is_computed_twice_for_broadcasting() -> None:
    b = Builder()
    x, y = b.input(40, 64), b.input(64)
    assert kinds(optimise(b.graph(b("Mul", x, b("Exp", y))))) == ["Exp", "Mul"]


def test_short_loops_are_only_worth_a_kernel_for_several_steps() -> None:
    b = Builder()
    x = b.input(4, 8)
    assert kinds(optimise(b.graph(b("Exp", b("Tanh", x))))) == ["Tanh", "Exp"]
    b = Builder()
    assert kinds(optimise(b.graph(b("Exp", b("Tanh", b("Abs", b.input(4, 8))))))) == ["+Elementwise"]


def test_a_kernel_has_a_limit_of_inputs() -> None:
    b = Builder()
    y = b.input(40, 64)
    for _ in range(12):
        y = b("Mul", y, b.input(40, 64))
    graph = optimise(b.graph(y))
    assert kinds(graph) == ["+Elementwise", "+Elementwise"]
    assert [len(node.inputs) for node in graph.nodes] == [6, len(INPUTS)]


def test_loops_have_a_limit_of_dimensions() -> None:
    b = Builder()
    x, y = b.input(2, 1, 3, 1, 2, 1, 40), b.input(1, 3, 1, 2, 1, 2, 40)
    graph = optimise(b.graph(b("Exp", b("Mul", x, y))))
    assert kinds(graph) == ["Mul", "Exp"]


def test_powers_and_quotients_by_numbers_become_products() -> None:
    b = Builder()
    x = b.input(40, 64)
    y = b("Div", b("Pow", x, b.constant(3.0)), b.constant(4.0))
    z = b("Mul", b("Pow", b("Abs", x), b.constant(0.5)), b("Pow", x, b.constant(2.0)))
    graph = optimise(b.graph(b("Sub", b("Pow", y, z), b("Div", b.constant(2.0), x))))
    power = "Pow(Mul(Mul(Square(a), a), p0), Mul(Sqrt(Abs(a)), Square(a)))"
    assert expression(graph) == f"Sub({power}, Div(p1, a))"
    assert graph.nodes[0].attributes["numbers"] == [0.25, 2.0]


def test_factors_of_channels_become_inputs_that_fit_images() -> None:
    b = Builder()
    x, y = b.input(2, 20, 8, 8), b.input(2, 20, 8, 8)
    x = b("Add", b("Mul", x, b.weights(20, 1, 1)), b.constant(2.0))
    graph = optimise(b.graph(b("Add", b("Relu", x), y)))
    assert expression(graph) == "Add(Relu(Add(Mul(a, b), p0)), c)"
    assert [value.shape for value in graph.nodes[0].inputs] == [(2, 20, 8, 8), (1, 20, 1, 1), (2, 20, 8, 8)]


def test_another_shape_between_is_no_obstacle() -> None:
    b = Builder()
    scores, mask = b.input(8, 3, 49, 49), b.weights(1, 4, 1, 49, 49)
    y = b("Reshape", b("Add", scores, b.weights(3, 49, 49)), b.integers(2, 4, 3, 49, 49))
    y = b("Add", y, mask)
    graph = optimise(b.graph(b("Softmax", b("Reshape", y, b.integers(8, 3, 49, 49)))))
    assert kinds(graph) == ["+Elementwise", "+Reshape", "Softmax"]
    assert expression(graph) == "Add(Add(a, b), c)"
    assert node_of(graph, "Elementwise").attributes["views"][1] == [0, 0, 0, 49 * 49, 49, 1]


@pytest.mark.parametrize("perm", [[0, 2, 1, 3], [1, 0, 2, 3]])
def test_inputs_are_read_transposed(perm: list[int]) -> None:
    b = Builder()
    x, y = b.input(2, 3, 4, 48), b.input(*([2, 3, 4][axis] for axis in perm[:3]), 48)
    graph = optimise(b.graph(b("Add", b("Transpose", x, perm=perm), y)))
    assert "Transpose" not in kinds(graph)
    assert "+Elementwise" in kinds(graph)


def test_inputs_are_read_in_slices() -> None:
    b = Builder()
    x = b.input(4, 6, 80)
    first, second = b.many(2, "Split", x, b.integers(40, 40), axis=2)
    graph = optimise(b.graph(b("Mul", b("Sigmoid", first), second)))
    assert kinds(graph) == ["+Elementwise"]
    assert [value.name for value in graph.nodes[0].inputs] == ["x0", "x0"]
    assert graph.nodes[0].attributes["views"] == [[0, 480, 80, 1], [40, 480, 80, 1]]


def test_scattered_inputs_are_copied_first() -> None:
    b = Builder()
    x, y = b.input(50, 70), b.input(70, 50)
    assert kinds(optimise(b.graph(b("Add", b("Transpose", x), y)))) == ["Transpose", "Add"]
    b = Builder()
    x, y = b.input(300, 85), b.input(300, 2)
    assert kinds(optimise(b.graph(b("Add", b("Slice", x, b.integers(0), b.integers(2), b.integers(1)), y)))) == [
        "Slice", "Add"
    ]  # fmt: skip


def test_channels_last_may_join_an_image() -> None:
    b = Builder()
    x, y = b.input(2, 6, 5, 32), b.input(2, 32, 6, 5)
    y = b("Relu", b("Conv", y, b.weights(32, 32, 1, 1)))
    graph = optimise(b.graph(b("Add", b("Transpose", x, perm=[0, 3, 1, 2]), y)))
    assert kinds(graph) == ["+Conv>Relu", "+Elementwise"]
    assert node_of(graph, "Elementwise").attributes["views"] == [[0, 960, 1, 160, 32], None]


def test_the_kernels_of_a_graph_have_a_budget_and_those_in_use_serve_all() -> None:
    """At commit 53c12cb there was no limit: two or three seconds of compiling for each chain of 30 operators."""
    b = Builder()
    x = b.input(64, 64)
    names = ["Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Relu", "Sqrt", "Erf", "Sin", "Cos"]
    results = [x] * 20
    for index in range(20):
        for turn in range(12):
            results[index] = b(names[(index + turn * (1 + index // 10)) % 10], results[index])
    graph = passes.run(b.graph(*results, *(b("Neg", b("Tanh", b("Exp", x))) for _ in range(3))))
    chains = [node for node in graph.nodes if node.op_type == "Elementwise"]
    kernels = {node.attributes["expression"] for node in chains}
    cost = sum(elementwise_chains.OVERHEAD + len(kernel) for kernel in kernels)
    assert elementwise_chains.BUDGET - 16 < cost <= elementwise_chains.BUDGET
    assert len(chains) == len(kernels) + 2
    assert graph.notes == [elementwise_chains.LIMITED]
