"""Nodes that reach no output go."""

from __future__ import annotations

from support.graphs import Builder, kinds, optimise

from cpuruntime.passes.simplify import dead_code


def test_nodes_that_reach_no_output_go() -> None:
    b = Builder()
    x = b.input(2, 3)
    used = b("Relu", x)
    b("Exp", b("Neg", used))
    after = optimise(b.graph(b("Abs", used)), "dead_code")
    assert kinds(after) == ["Relu", "Abs"]


def test_a_node_stays_for_any_of_its_outputs() -> None:
    b = Builder()
    parts = b.many(2, "Split", b.input(4, 2), b.integers(2, 2), axis=0)
    after = optimise(b.graph(b("Relu", parts[1])), "dead_code")
    assert kinds(after) == ["Split", "Relu"]


def test_inputs_stay() -> None:
    b = Builder()
    x, unused = b.input(2), b.input(3)
    after = optimise(b.graph(b("Relu", x)), "dead_code")
    assert [value.name for value in after.inputs] == [x.name, unused.name]


def test_it_says_whether_anything_changed() -> None:
    b = Builder()
    x = b.input(2)
    b("Neg", x)
    graph = b.graph(b("Relu", x))
    assert dead_code.run(graph)
    assert not dead_code.run(graph)
