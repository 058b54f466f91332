"""Small ONNX models for tests of the reader and of shape inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    outputs: Sequence[str] = ("y",),
    initializers: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 10,
) -> onnx.ModelProto:
    """A model with float32 inputs, name to shape (x [2,4] when there are none given)."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [
            helper.make_tensor_value_info(name, FLOAT, shape)
            for name, shape in ({"x": [2, 4]} if inputs is None else inputs).items()
        ],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def dense_model(rows: int = 4, columns: int = 3) -> onnx.ModelProto:
    """y = relu(x @ w + b)."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="gemm"),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
    ]
    weights = {
        "w": random.standard_normal((rows, columns), np.float32),
        "b": random.standard_normal(columns, np.float32),
    }
    return model_of(nodes, {"x": ["n", rows]}, initializers=weights)


def one_node(op_type: str, shapes: Mapping[str, Sequence[int | str]] | None = None, opset: int = 17, **attributes: Any):
    """A model of one node, named as its operator in lower case, that reads all inputs and makes y."""
    shapes = {"x": [2, 4]} if shapes is None else shapes
    node = helper.make_node(op_type, list(shapes), ["y"], name=op_type.lower(), **attributes)
    return model_of([node], shapes, opset=opset)
