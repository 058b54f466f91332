"""Small ONNX models that the conformance suite compiles."""

from __future__ import annotations

import onnx
from onnx import parser

Extents = tuple[int | str, ...]


def added(element_type: str = "float") -> onnx.ModelProto:
    """sum = x + y; result = relu(sum); all of shape [2,3]."""
    port = f"{element_type}[2,3]"
    return _model(
        f"small ({port} x, {port} y) => ({port} sum, {port} result)"
        "{ [add] sum = Add(x, y) [relu] result = Relu(sum) }"
    )


def negated(shape: Extents = (2, 3)) -> onnx.ModelProto:
    """y = -x."""
    port = f"float[{','.join(map(str, shape))}]"
    return _model(f"negation ({port} x) => ({port} y) {{ [negate] y = Neg(x) }}")


def copied() -> onnx.ModelProto:
    """y = x."""
    return _model("copy (float[2,3] x) => (float[2,3] y) { [same] y = Identity(x) }")


def with_constant() -> onnx.ModelProto:
    """y = -x; fixed = [1, 2]."""
    return _model(
        "constant (float[2,3] x) => (float[2,3] y, float[2] fixed)"
        "{ [constant] fixed = Constant <value = float[2] {1, 2}> () [negate] y = Neg(x) }"
    )


def _model(graph: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {graph}')
