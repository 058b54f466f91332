"""Quantised models whose values are bytes between layers: what ONNX Runtime computes, by kernels on integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from support.judge import Net, onnx_runtime, random_inputs

import cpuruntime as ov


class Quantised(Net):
    """Writes the pairs of QuantizeLinear and DequantizeLinear of quantised models."""

    def pair(self, x: str, scale: float = 0.05, zero: int = 120, dtype: Any = np.uint8) -> str:
        of_x = self.constant(scale), self.constant(zero, dtype)
        return self("DequantizeLinear", self("QuantizeLinear", x, *of_x), *of_x)

    def w(self, *shape: int, axis: int = 0) -> str:
        array = self.constant(self.random.integers(-127, 128, shape), np.int8)
        scales, zeros = self.random.uniform(1e-3, 3e-3, shape[axis]), np.zeros(shape[axis])
        return self("DequantizeLinear", array, self.constant(scales), self.constant(zeros, np.int8), axis=axis)


def check(model: onnx.ModelProto, operators: Sequence[str], steps: float, share: float = 0.02) -> None:
    """Fails unless the operators run, no others, and give ONNX Runtime's results: at most `share` of them differ, by
    `steps`."""
    feeds = random_inputs(model)
    with ov.Core().compile_model(model, "CPU") as compiled:
        found = compiled(dict(feeds))
        rows = compiled.explain().rows
        assert {row.op_type for row in rows} == set(operators)
        assert not compiled.explain().fallbacks
        assert {row.precision for row in rows if row.op_type.startswith("Quantised")} <= {"u8"}
        for index, theirs in enumerate(onnx_runtime(model, feeds)):
            assert (found[index].dtype, found[index].shape) == (theirs.dtype, theirs.shape)
            difference = np.abs(found[index].astype(np.float64) - theirs)
            assert difference.max() <= steps * 1.001
            assert np.mean(difference > 1e-5) <= share


def test_a_convolutional_model() -> None:
    n = Quantised()
    x = n.pair(n.input(2, 3, 12, 12), 0.03)
    x = n.pair(n("Relu", n("Conv", x, n.w(16, 3, 3, 3), pads=[1] * 4, strides=[2, 2])), 0.02, 0)
    y = n.pair(n("Conv", x, n.w(16, 1, 3, 3), pads=[1] * 4, group=16), 0.02)
    y = n.pair(n("Mul", y, n.pair(n("Sigmoid", y), 1 / 256, 0)), 0.01, 30)
    x = n.pair(n("Add", x, n.pair(n("Conv", y, n.w(16, 16, 1, 1)), 0.02)), 0.03)
    x = n.pair(n("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4), 0.03)
    x = n.pair(n("Concat", x, y, axis=1), 0.03)
    x = n.pair(n("GlobalAveragePool", x), 0.01)
    x = n.pair(n("Flatten", x), 0.01)
    n.output(n("Gemm", x, n.w(10, 32), n.weights(10), transB=1))
    operators = "ByteTable MaxPool Quantise QuantisedAveragePool QuantisedConvolution"
    check(n.model(), [*operators.split(), "QuantisedMatMul"], 0.02, 1.0)


def test_a_transformer_layer() -> None:
    n = Quantised(opset=17)
    x = n.pair(n.input(1, 9, 32), 0.03)
    q, k, v = (n.pair(n("Add", n("MatMul", x, n.w(32, 32, axis=1)), n.weights(32))) for _ in range(3))
    scores = n.pair(n("MatMul", q, n.pair(n("Transpose", k, perm=[0, 2, 1]))), 0.2)
    y = n.pair(n("MatMul", n.pair(n("Softmax", scores), 1 / 255, 0), v), 0.02)
    x = n.pair(n("LayerNormalization", n("Add", x, y), n.positive(32), n.weights(32)), 0.03)
    n.output(n("MatMul", x, n.w(32, 8, axis=1)))
    operators = "Dequantise Elementwise LayerNorm Quantise QuantisedMatMul Softmax Transpose"
    check(n.model(), operators.split(), 0.1, 1.0)


def test_operators_of_onnx_runtime() -> None:
    """QLinearConv, QLinearAdd, QLinearSigmoid, QLinearConcat and QGemm, as in models of the format QOperator."""
    n = Quantised(opset=17)
    scale, zero, domain = n.constant(0.05), n.constant(120, np.uint8), {"domain": "com.microsoft"}
    x = n("QuantizeLinear", n.input(1, 16, 6, 6), scale, zero)
    w = n.constant(n.random.integers(-127, 128, (16, 16, 1, 1)), np.int8)
    of_w = n.constant(n.random.uniform(1e-3, 3e-3, 16)), n.constant(np.zeros(16), np.int8)
    y = n("QLinearConv", x, scale, zero, w, *of_w, scale, zero)
    y = n("QLinearAdd", x, scale, zero, y, scale, zero, scale, zero, **domain)
    z = n("QLinearSigmoid", y, scale, zero, n.constant(1 / 256), n.constant(0, np.uint8), **domain)
    of_z = n.constant(1 / 256), n.constant(0, np.uint8)
    y = n("QLinearConcat", scale, zero, y, scale, zero, z, *of_z, axis=1, **domain)
    w, bias = n.constant(n.random.integers(-127, 128, (1152, 10)), np.int8), n.constant(np.arange(10), np.int32)
    of_w = n.constant(np.float32(0.001)), n.constant(0, np.int8)
    n.output(n("QGemm", n("Flatten", y), scale, zero, w, *of_w, bias, n.constant(0.1), zero, **domain))
    model = n.model()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    operators = "ByteTable Quantise QuantisedConvolution QuantisedMatMul Reshape"
    check(model, operators.split(), 1)


def test_keys_and_values_of_earlier_tokens_in_bytes() -> None:
    """Present ones are the past ones with those of new tokens behind, all u8, and attention reads their numbers."""
    n = Quantised(opset=17)
    scale, zero = n.constant(0.02), n.constant(128, np.uint8)
    query, scores = n.input(1, 2, 3, 16), ""
    for index in range(2):
        past = n("QuantizeLinear", n.input(1, 2, 9, 16), scale, zero)
        present = n("Concat", past, n("QuantizeLinear", n.input(1, 2, 3, 16), scale, zero), axis=2)
        numbers = n("DequantizeLinear", present, scale, zero)
        if index == 0:
            scores = n("Softmax", n("MatMul", query, n("Transpose", numbers, perm=[0, 1, 3, 2])))
        else:
            n.output(n("MatMul", scores, numbers))
        n.output(present)
    check(n.model(), ["Attention", "Concat", "Dequantise", "Quantise"], 1e-5)
