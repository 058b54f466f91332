"""Values, nodes, graphs; the printer and the verifier."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from cpuruntime.errors import InternalError
from cpuruntime.graph import Graph, Node, PartialShape, Type, Value, verify


def small_graph() -> Graph:
    """y = relu(x @ w), with w constant."""
    x = Value("x", Type.f32, [None, 4])
    w = Value.of("w", np.arange(8, dtype=np.float32).reshape(4, 2))
    h, y = Value("h", Type.f32, [None, 2]), Value("y", Type.f32, [None, 2])
    nodes = [
        Node("MatMul", "m", [x, w], [h], version=13),
        Node("Relu", "r", [h], [y], version=13, origins=["r", "r2"]),
    ]
    graph = Graph("small", [x], [y], nodes, {"": 13})
    graph.input_bounds["x"] = PartialShape("[1..8,4]")
    return graph


def test_values():
    graph = small_graph()
    w = graph.nodes[0].inputs[1]
    assert w.element_type is Type.f32
    assert w.shape == w.static_shape == (4, 2)
    assert w.producer is None
    assert graph.outputs[0].producer is graph.nodes[1]
    x = graph.inputs[0]
    assert not x.is_static
    assert str(x) == "x: f32[?,4]"
    assert str(Value("v")) == "v: dynamic[...]"
    with pytest.raises(InternalError, match="x: f32"):
        _ = x.static_shape
    assert w.data is w.constant
    assert w.nbytes == w.data.nbytes
    with pytest.raises(InternalError, match=r"x: f32.* not a constant"):
        _ = x.data


def test_absent_inputs():
    node = Node("Clip", "c", [Value("x"), None], [Value("y")], version=13)
    assert node.input(1) is None
    assert node.input(2) is None
    assert node.where == "Clip 'c' (opset 13)"
    assert node.require(0) is node.inputs[0]
    for index in (1, 2):
        with pytest.raises(InternalError, match=rf"Clip .c. \(opset 13\): input {index} is absent"):
            node.require(index)
    assert Node("Foo", "f", [], [], domain="my", version=1).where == "Foo 'f' (my opset 1)"


def test_uses_and_values():
    graph = small_graph()
    matmul, relu = graph.nodes
    uses = graph.uses()
    assert uses[graph.inputs[0]] == [(matmul, 0)]
    assert uses[matmul.outputs[0]] == [(relu, 0)]
    assert graph.outputs[0] not in uses
    assert [value.name for value in graph.values()] == ["x", "w", "h", "y"]
    assert [value.name for value in graph.constants()] == ["w"]


def test_a_value_used_twice_by_one_node():
    x, y = Value("x", Type.f32, [1]), Value("y", Type.f32, [1])
    node = Node("Add", "a", [x, x], [y])
    assert Graph("g", [x], [y], [node]).uses()[x] == [(node, 0), (node, 1)]


def test_replace_reaches_nodes_and_outputs():
    graph = small_graph()
    matmul, relu = graph.nodes
    graph.replace(relu.outputs[0], matmul.outputs[0])
    assert graph.outputs == [matmul.outputs[0]]
    other = Value("other", Type.f32, [None, 4])
    graph.replace(graph.inputs[0], other)
    assert matmul.inputs[0] is other


def test_a_clone_is_independent():
    graph = small_graph()
    clone = graph.clone()
    assert str(clone) == str(graph)
    assert not set(clone.values()) & set(graph.values())
    assert clone.nodes[0].inputs[1].constant is graph.nodes[0].inputs[1].constant
    assert clone.nodes[1].origins == ["r", "r2"]
    assert clone.input_bounds == {"x": PartialShape("[1..8,4]")}
    clone.nodes[1].attributes["alpha"] = 1.0
    clone.input_bounds.clear()
    clone.nodes.pop()
    assert graph.nodes[1].attributes == {}
    assert len(graph.nodes) == 2
    assert graph.input_bounds
    verify(graph)


def test_a_long_graph_is_pickled_whole():
    values = [Value("v0", Type.f32, [2])]
    nodes = []
    for index in range(3000):
        values.append(Value(f"v{index + 1}", Type.f32, [2]))
        nodes.append(Node("Relu", f"n{index}", [values[-2], None], [values[-1]], {"body": Graph("b", [], [], [])}))
    constant = Value.of("c", np.arange(2.0))
    graph = Graph("long", [values[0]], [values[-1], constant], nodes, {"": 21})
    graph.defaults, graph.notes = [constant], ["note"]
    graph.input_bounds = {"v0": PartialShape([2])}
    again = pickle.loads(pickle.dumps(graph))
    assert str(again) == str(graph)
    assert again.nodes[-1].outputs[0].producer is again.nodes[-1]
    assert again.outputs[1] is again.defaults[0]
    assert (again.opsets, again.notes, again.input_bounds) == (graph.opsets, graph.notes, graph.input_bounds)


def test_text():
    graph = small_graph()
    graph.nodes[1].attributes = {"alpha": 0.5, "many": list(range(20)), "table": np.zeros(20, np.int64)}
    assert str(graph).splitlines() == [
        "graph small (x: f32[?,4])",
        "  h: f32[?,2] = MatMul 'm' (x, w=[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])",
        "  y: f32[?,2] = Relu 'r' (h) {alpha: 0.5, many: list of 20, table: array int64[20]}",
        "  return y",
    ]
    assert "2 nodes" in repr(graph)


def test_text_of_large_and_absent_values():
    large = Value.of("large", np.zeros((3, 4), np.int8))
    node = Node("Op", "o", [large, None], [Value(""), Value("y", Type.i8, [3])], domain="my")
    assert (
        str(Graph("g", [], node.outputs[1:], [node])).splitlines()[1] == "  -, y: i8[3] = my.Op 'o' (large: i8[3,4], -)"
    )


def test_verify_accepts_a_sound_graph():
    verify(small_graph())


def unordered(graph: Graph) -> None:
    graph.nodes.reverse()


def dangling(graph: Graph) -> None:
    graph.nodes[0].inputs[0] = Value("nowhere", Type.f32, [1, 4])


def made_twice(graph: Graph) -> None:
    relu = graph.nodes[1]
    graph.nodes.append(Node("Relu", "again", [graph.inputs[0]], graph.outputs))
    graph.outputs[0].producer = relu


def wrong_producer(graph: Graph) -> None:
    graph.outputs[0].producer = graph.nodes[0]


def wrong_constant(graph: Graph) -> None:
    graph.nodes[0].inputs[1].shape = (2, 4)


def wrong_constant_type(graph: Graph) -> None:
    graph.nodes[0].inputs[1].element_type = Type.f16


def constant_input(graph: Graph) -> None:
    graph.inputs.append(graph.nodes[0].inputs[1])


def made_constant(graph: Graph) -> None:
    graph.nodes[0].outputs[0].constant = np.zeros(1, np.float32)


def made_input(graph: Graph) -> None:
    graph.inputs.append(graph.nodes[0].outputs[0])


def same_name(graph: Graph) -> None:
    graph.inputs.append(Value("x", Type.f32, [1]))


def missing_output(graph: Graph) -> None:
    graph.outputs.append(Value("missing", Type.f32, [1]))


def constant_with_producer(graph: Graph) -> None:
    graph.nodes[0].inputs[1].producer = graph.nodes[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unordered, "no earlier node makes"),
        (dangling, "nowhere"),
        (made_twice, "exists already"),
        (wrong_producer, "whose producer is"),
        (wrong_constant, r"whose data are float32\[4, 2\]"),
        (wrong_constant_type, "whose data are float32"),
        (constant_input, "has a producer or data"),
        (made_constant, "which is a constant"),
        (made_input, "has a producer or data"),
        (same_name, "share a name"),
        (missing_output, "missing"),
        (constant_with_producer, "a constant with a producer"),
    ],
)
def test_verify_refuses(damage, message):
    graph = small_graph()
    damage(graph)
    with pytest.raises(InternalError, match=message):
        verify(graph)
