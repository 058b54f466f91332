"""The manager: order, errors, dumps; the editor that passes use."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime import passes
from cpuruntime.errors import InternalError, InvalidArgumentError, ModelError
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.passes import Pass
from cpuruntime.passes.editor import Editor


def small() -> Graph:
    b = Builder()
    x = b("Conv", b.input(1, 3, 4, 4), b.weights(2, 3, 1, 1))
    return b.graph(b("Relu", b("Identity", x)))


def test_names_are_unique() -> None:
    assert len({each.name for each in passes.PASSES}) == len(passes.PASSES)


def test_it_stops_where_it_is_told() -> None:
    graph = small()
    assert kinds(passes.run(graph, stop_after="dead_code")) == ["Conv", "Identity", "Relu"]
    assert kinds(passes.run(graph, stop_after="no_ops")) == ["+Conv", "Relu"]
    assert kinds(passes.run(graph)) == ["+Conv>Relu"]
    assert kinds(graph) == ["Conv", "Identity", "Relu"]


def test_a_device_names_its_pipeline() -> None:
    graph = small()
    assert passes.PASSES == passes.CANONICAL + passes.SIMPLIFY + passes.FUSE
    assert kinds(passes.run(graph, ())) == ["Conv", "Identity", "Relu"]
    assert kinds(passes.run(graph, passes.SIMPLIFY)) == ["Conv", "Relu"]
    assert kinds(passes.run(graph, passes.CANONICAL + passes.SIMPLIFY)) == ["+Conv", "Relu"]
    with pytest.raises(InvalidArgumentError, match="There is no pass 'epilogues'"):
        passes.run(graph, passes.SIMPLIFY, stop_after="epilogues")


def test_it_is_idempotent() -> None:
    once = passes.run(small())
    assert str(passes.run(once)) == str(once)


def test_an_unknown_name_gets_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no pass 'no_op'\. Did you mean 'no_ops'"):
        passes.run(small(), stop_after="no_op")
    monkeypatch.setenv("CPURUNTIME_DUMP_AFTER", "epilogue")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'epilogues'"):
        passes.run(small())


def test_the_graph_is_printed_after_one_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("CPURUNTIME_DUMP_AFTER", "no_ops")
    passes.run(small())
    text = capsys.readouterr().err
    assert text.startswith("# after no_ops\ngraph test")
    assert text.count("# after") == 1
    assert "cpuruntime.Conv 'n0'" in text


def test_the_graph_is_printed_after_all_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("CPURUNTIME_DUMP_AFTER", "all")
    passes.run(small())
    assert capsys.readouterr().err.count("# after") == len(passes.PASSES)


def test_a_broken_graph_is_refused_before_the_first_pass() -> None:
    graph = small()
    graph.nodes.reverse()
    with pytest.raises(InternalError, match="no earlier node makes"):
        passes.run(graph)


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    def reverse(graph: Graph) -> bool:
        graph.nodes.reverse()
        return True

    with pytest.raises(InternalError, match=r"no earlier node makes.*\(found by the pass 'faulty'\)"):
        passes.run(small(), (Pass("faulty", reverse),))


def test_a_pass_that_fails_is_named() -> None:
    def fail(graph: Graph) -> bool:
        raise KeyError("oops")

    with pytest.raises(InternalError, match="the pass 'faulty' failed: KeyError: 'oops'"):
        passes.run(small(), (Pass("faulty", fail),))


def test_errors_of_the_model_keep_their_type() -> None:
    def refuse(graph: Graph) -> bool:
        raise ModelError("bad.")

    with pytest.raises(ModelError, match=r"bad. \(found by the pass 'faulty'\)"):
        passes.run(small(), (Pass("faulty", refuse),))


def test_a_pass_that_renames_an_output_is_named() -> None:
    def rename(graph: Graph) -> bool:
        graph.outputs[0].name = "other"
        return True

    with pytest.raises(InternalError, match="'faulty' renamed or retyped"):
        passes.run(small(), (Pass("faulty", rename),))


def test_bounds_of_inputs_stay() -> None:
    graph = small()
    graph.input_bounds["x0"] = "kept"
    assert passes.run(graph).input_bounds == {"x0": "kept"}


def test_an_empty_graph() -> None:
    assert passes.run(Graph("empty", [], [], [], {"": 13})).nodes == []


def test_operators_of_other_domains_stay() -> None:
    x = Value("x", Type.f32, (2, 3))
    names = ("Relu", "Add", "Identity", "Conv", "Softmax", "Reshape")
    nodes = []
    for name in names:
        nodes.append(Node(name, name, [x], [Value(f"{name}_out", Type.f32, (2, 3))], {}, "com.example", 1))
        x = nodes[-1].outputs[0]
    graph = Graph("custom", [nodes[0].inputs[0]], [x], nodes, {"": 13, "com.example": 1})
    assert kinds(passes.run(graph)) == list(names)


def test_values_that_subgraphs_read_survive() -> None:
    branches = {}
    for name, op_type in (("then_branch", "Exp"), ("else_branch", "Neg")):
        seen, result = Value("seen"), Value("result")
        branches[name] = Graph(name, [seen], [result], [Node(op_type, name, [seen], [result], {}, "", 13)], {"": 13})
    b = Builder()
    x = b("Identity", b("Relu", b("Identity", b.input(2, 3))))
    y = b("If", b("Not", b.input(dtype=np.bool_)), x, captures=["seen"], **branches)
    after = optimise(b.graph(b("Identity", y)))
    assert kinds(after) == ["Relu", "Not", "If"]
    assert after.nodes[2].inputs[1] is after.nodes[0].outputs[0]


def test_an_editor_gives_unused_names() -> None:
    graph = small()
    editor = Editor(graph)
    names = [editor.value("n0_Conv", Type.f32, ()).name for _ in range(2)]
    names.append(editor.constant("new", np.zeros(1)).name)
    assert names == ["n0_Conv/2", "n0_Conv/3", "new"]


def test_an_editor_without_changes_leaves_the_graph() -> None:
    graph = small()
    nodes = graph.nodes
    assert not Editor(graph).finish()
    assert graph.nodes is nodes


def test_a_replacement_may_be_replaced() -> None:
    graph = small()
    editor = Editor(graph)
    relu = graph.nodes[2]
    source, output = relu.inputs[0], relu.outputs[0]
    first = Node("Neg", "first", [source], [output], {}, "", 13)
    second = Node("Exp", "second", [source], [output], {}, "", 13)
    editor.replace(relu, first)
    editor.replace(first, second)
    assert editor.finish()
    assert kinds(graph) == ["Conv", "Identity", "Exp"]
    assert editor.users(source) == [second]
