"""Quantised models in float32: each computes what ONNX Runtime does with integers, by kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import Net, compare, onnx_runtime, random_inputs

import cpuruntime as ov


def within(n: Net, quanta: int) -> ov.CompiledModel:
    """Integers may differ by so much: sums of floats are rounded to the other side now and then."""
    model = n.model()
    feeds = random_inputs(model)
    compiled = ov.Core().compile_model(model, "CPU")
    assert not compiled.explain().fallbacks
    found = compiled(dict(feeds))
    for index, theirs in enumerate(onnx_runtime(model, feeds)):
        assert (found[index].dtype, found[index].shape) == (theirs.dtype, theirs.shape)
        difference = np.abs(found[index].astype(np.float64) - theirs)
        assert difference.max() <= quanta
        assert np.mean(difference > 0) < 0.02
    return compiled


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 1, 0, -1])
def test_quantisation_and_back(dtype: Any, axis: int | None) -> None:
    n = Net()
    x = n.input(3, 5, 4, 40)
    extent = 1 if axis is None else (3, 5, 4, 40)[axis]
    shape = () if axis is None else (extent,)
    scale = n.constant(0.03 * np.arange(1, extent + 1).reshape(shape))
    zero = n.constant(np.arange(extent).reshape(shape) % 5, dtype)
    attributes = {} if axis is None else {"axis": axis}
    q = n("QuantizeLinear", x, scale, zero, **attributes)
    n.output(q, n("DequantizeLinear", q, scale, zero, **attributes))
    compare(n.model())


def test_what_is_quantised_and_brought_back_stays_in_floats() -> None:
    n = Net()
    x = n.input(1, 8, 20, 20)
    scale, zero = n.constant(0.02), n.constant(7, np.uint8)
    y = n("DequantizeLinear", n("QuantizeLinear", x, scale, zero), scale, zero)
    n.output(n("Relu", y))
    compiled = compare(n.model())
    (row,) = compiled.explain().rows
    assert row.kernel == "Relu(Add(Mul(Clip(Add(Round(Div(a, p0)), p1), p2, p3), p0), p4))"


def test_a_model_with_quantised_layers() -> None:
    n = Net()
    x = n.input(1, 3, 12, 12)
    scale, zero = n.constant(0.05), n.constant(3, np.uint8)
    for channels in (3, 16):
        x = n("DequantizeLinear", n("QuantizeLinear", x, scale, zero), scale, zero)
        weights = n.constant(n.random.integers(-127, 127, (16, channels, 3, 3)), np.int8)
        factors = n.constant(n.random.uniform(0.001, 0.002, 16))
        w = n("DequantizeLinear", weights, factors, n.constant(np.zeros(16), np.int8), axis=0)
        bias = n("DequantizeLinear", n.constant(n.random.integers(-99, 99, 16), np.int32), n.constant(0.001))
        x = n("Relu", n("Conv", x, w, bias, pads=[1] * 4))
    n.output(x)
    compare(n.model(), tolerance=0.02)  # a quantum


def test_dynamic_quantisation() -> None:
    n = Net()
    x = n.input(5, 48)
    for _ in range(2):
        y, scale, zero = n.many(3, "DynamicQuantizeLinear", x)
        weights = n.constant(n.random.integers(-127, 127, (48, 48)), np.int8)
        product = n("MatMulInteger", y, weights, zero, n.constant(0, np.int8))
        x = n("Mul", n("Cast", product, to=1), n("Mul", scale, n.constant(0.002)))
    n.output(x, zero, scale)
    compiled = compare(n.model(), tolerance=0.02)
    assert "QuantisedMatMul" in {row.op_type for row in compiled.explain().rows}


@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution_of_integers(per_channel: bool) -> None:
    n = Net()
    x = n.input(1, 5, 10, 10)
    x_scale, x_zero = n.constant(0.04), n.constant(120, np.uint8)
    q = n("QuantizeLinear", x, x_scale, x_zero)
    w = n.constant(n.random.integers(-127, 127, (8, 5, 3, 3)), np.int8)
    count = 8 if per_channel else 1
    w_scale = n.constant(n.random.uniform(0.001, 0.002, count).reshape((count,) if per_channel else ()))
    w_zero = n.constant(np.zeros((count,) if per_channel else ()), np.int8)
    bias = n.constant(n.random.integers(-999, 999, 8), np.int32)
    y = n("QLinearConv", q, x_scale, x_zero, w, w_scale, w_zero, n.constant(0.05), n.constant(9, np.uint8), bias,
          pads=[1] * 4, strides=[2, 2])  # fmt: skip
    n.output(y)
    within(n, 1)


def test_product_of_integers() -> None:
    n = Net()
    q = n("QuantizeLinear", n.input(6, 32), n.constant(0.04), n.constant(100, np.uint8))
    w = n.constant(n.random.integers(0, 255, (32, 20)), np.uint8)
    n.output(n("QLinearMatMul", q, n.constant(0.04), n.constant(100, np.uint8), w, n.constant(0.01),
               n.constant(128, np.uint8), n.constant(0.1), n.constant(128, np.uint8)))  # fmt: skip
    within(n, 1)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_dynamically_quantised_convolutions(asymmetric: bool) -> None:
    n = Net()
    x, scale, zero = n.many(3, "DynamicQuantizeLinear", n.input(1, 3, 10, 10))
    weights = n.constant(n.random.integers(0, 255, (16, 3, 3, 3)), np.uint8)
    inputs = [x, weights, zero, n.constant(120, np.uint8)] if asymmetric else [x, weights, zero]
    y = n("Cast", n("ConvInteger", *inputs, pads=[1] * 4), to=1)
    n.output(n("Mul", y, n("Mul", scale, n.constant(0.01))))
    compiled = compare(n.model())
    assert any(row.op_type == "Conv" and row.precision == "f32" for row in compiled.explain().rows)
