"""Small graphs for tests of passes: built by hand, optimised, and compared by running both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from support.interpreter import interpret

from cpuruntime import passes
from cpuruntime.graph import Graph, Node, Type, Value, verify
from cpuruntime.operators.shape_inference import infer_shapes


class Builder:
    """`b = Builder(); x = b.input(1, 3, 8, 8); b.output(b("Relu", x)); graph = b.graph()`."""

    def __init__(self, opset: int = 13, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self._inputs: list[Value] = []
        self.outputs: list[Value] = []
        self._nodes: list[Node] = []
        self._constants = 0

    def input(self, *shape: int | None, dtype: Any = np.float32) -> Value:
        value = Value(f"x{len(self._inputs)}", Type(dtype), shape)
        self._inputs.append(value)
        return value

    def constant(self, data: Any, dtype: Any = np.float32) -> Value:
        self._constants += 1
        return Value.of(f"c{self._constants}", np.array(data, dtype))

    def weights(self, *shape: int) -> Value:
        return self.constant(self.random.standard_normal(shape))

    def positive(self, *shape: int) -> Value:
        return self.constant(self.random.uniform(0.5, 1.5, shape))

    def integers(self, *numbers: int) -> Value:
        return self.constant(list(numbers), np.int64)

    def __call__(self, op_type: str, *inputs: Value | None, **attributes: Any) -> Value:
        return self.many(1, op_type, *inputs, **attributes)[0]

    def many(self, count: int, op_type: str, *inputs: Value | None, **attributes: Any) -> list[Value]:
        name = f"n{len(self._nodes)}"
        outputs = [Value(f"{name}_{op_type}" + (f"_{index}" if index else "")) for index in range(count)]
        self._nodes.append(Node(op_type, name, inputs, outputs, attributes, "", self.opset))
        return outputs

    def norm(self, x: Value, channels: int, **attributes: Any) -> Value:
        """BatchNormalization with random parameters."""
        parameters = (self.positive(channels), self.weights(channels), self.weights(channels), self.positive(channels))
        return self("BatchNormalization", x, *parameters, **attributes)

    def output(self, *values: Value) -> None:
        self.outputs += [value for value in values if value not in self.outputs]

    def graph(self, *outputs: Value) -> Graph:
        """The graph, with all shapes inferred; `outputs` besides those given before."""
        self.output(*outputs)
        graph = Graph("test", self._inputs, self.outputs, self._nodes, {"": self.opset})
        infer_shapes(graph)
        verify(graph)
        return graph


def random_inputs(graph: Graph, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {}
    for value in graph.inputs:
        shape = [2 if extent is None else extent for extent in value.shape]
        numbers = random.integers(0, 256, shape) if value.element_type is Type.u8 else 2 * random.standard_normal(shape)
        found[value.name] = numbers.astype(value.element_type.to_dtype())
    return found


def optimise(graph: Graph, stop_after: str | None = None) -> Graph:
    """The graph after the passes; checks that it computes the same, and that `graph` did not change."""
    before = str(graph)
    feeds = random_inputs(graph)
    expected = interpret(graph, feeds)
    optimised = passes.run(graph, stop_after=stop_after)
    assert str(graph) == before
    found = interpret(optimised, feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        tolerance = 1e-5 * max(1.0, np.abs(array.astype(np.float64)).max(initial=0))
        np.testing.assert_allclose(found[name], array, 1e-4, tolerance, err_msg=name)
    return optimised


def kinds(graph: Graph) -> list[str]:
    """What the nodes are, in order: ONNX's by name; "+Conv", "+Conv+residual", "+Conv>Relu" for the passes' own."""
    return [kind(node) for node in graph.nodes]


def kind(node: Node) -> str:
    text = f"+{node.op_type}" if node.domain == "cpuruntime" else node.op_type
    if node.domain == "cpuruntime" and node.op_type in ("Conv", "FullyConnected") and node.inputs[3] is not None:
        text += "+residual"
    return text + (f">{node.attributes['activation']}" if node.attributes.get("activation") else "")


def node_of(graph: Graph, *op_types: str) -> Node:
    """The only node of these types."""
    found = [node for node in graph.nodes if node.op_type in op_types]
    assert len(found) == 1, kinds(graph)
    return found[0]


def attributes_of(graph: Graph, op_type: str, *names: str) -> Sequence[Any]:
    node = node_of(graph, op_type)
    return [node.attributes[name] for name in names]
