"""Small ONNX models for tests of the public interface."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Extents = Sequence[int | str]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Extents],
    outputs: dict[str, Extents],
    element_type: int = TensorProto.FLOAT,
    name: str = "small",
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A model with all its inputs and outputs of one element type."""

    def ports(shapes: dict[str, Extents]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(port, element_type, list(shape)) for port, shape in shapes.items()]

    graph = helper.make_graph(list(nodes), name, ports(inputs), ports(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def two_inputs(shape: Extents = (2, 3), element_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """sum = x + y; result = relu(sum)."""
    nodes = [
        helper.make_node("Add", ["x", "y"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["result"], name="relu"),
    ]
    return make_model(nodes, {"x": shape, "y": shape}, {"sum": shape, "result": shape}, element_type)


def one_input(shape: Extents = (2, 3)) -> onnx.ModelProto:
    """y = -x."""
    return make_model(
        [helper.make_node("Neg", ["x"], ["y"], name="negate")], {"x": shape}, {"y": shape}, name="negation"
    )


def chain(length: int, width: int) -> onnx.ModelProto:
    """y = x after `length` products with the unit matrix, each of some time."""
    weights = numpy_helper.from_array(np.eye(width, dtype=np.float32), "w")
    names = ["x", *(f"h{i}" for i in range(1, length)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    return make_model(nodes, {"x": [width, width]}, {"y": [width, width]}, constants=[weights])
