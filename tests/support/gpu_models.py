"""A model of two steps for tests of device GPU, with an input and its result."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

MODEL = """<ir_version: 10, opset_import: ["" : 17]> chain (float[N,64] x) => (float[N,64] y)
{ [double] d = Add(x, x) [bend] y = Sigmoid(d) }"""
X = np.linspace(-3, 3, 256, dtype=np.float32).reshape(4, 64)
Y = 1 / (1 + np.exp(-2 * X))


def chain(rows: int | str = 4) -> onnx.ModelProto:
    """y = sigmoid(x + x), of shape [rows,64]."""
    return onnx.parser.parse_model(MODEL.replace("N", str(rows)))
