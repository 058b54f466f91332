"""The evaluation of quantised convolutions and products, against whole numbers."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.traits import DOMAIN
from cpuruntime.passes import evaluate


def test_convolution_with_zero_points_bias_and_residual() -> None:
    random = np.random.default_rng(0)
    x, w = random.integers(0, 256, (1, 4, 3, 3), np.uint8), random.integers(-128, 128, (6, 2, 1, 1), np.int8)
    multiplier, bias = random.uniform(0.001, 0.01, 6).astype(np.float32), random.integers(-99, 99, 6, np.int32)
    residual = random.integers(-128, 128, (1, 6, 3, 3), np.int8)
    attributes = dict(
        kernel_shape=[1, 1], strides=[1, 1], dilations=[1, 1], pads=[0, 0, 0, 0], group=2, x_zero=7,
        weights_zero=[1, 2, 3, 4, 5, 6], y_zero=-5, low=-100, high=90, residual_zero=3, residual_scale=0.3,
    )  # fmt: skip
    values = [Value(name) for name in "xwmbr"]
    node = Node("QuantisedConvolution", "n", values, [Value("y", Type.i8, residual.shape)], attributes, DOMAIN, 1)
    (found,) = evaluate(node, [x, w, multiplier, bias, residual])
    wide, weights = x.astype(int) - 7, w[:, :, 0, 0].astype(int) - np.arange(1, 7)[:, None]
    sums = np.stack([np.tensordot(weights[m], wide[0, m // 3 * 2 :][:2], 1) for m in range(6)]) + bias[:, None, None]
    real = sums.astype(np.float32) * multiplier[:, None, None] + np.float32(0.3) * (residual[0] - np.float32(3))
    np.testing.assert_array_equal(found[0], np.clip(np.rint(real) - 5, -100, 90).astype(np.int8))


def test_product_with_computed_scale_and_zero_of_rows() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (3, 5), np.uint8), random.integers(0, 256, (5, 4), np.uint8)
    multiplier, bias = np.arange(1, 5, dtype=np.float32), np.full(4, 0.5, np.float32)
    attributes = dict(a_zero=0, b_zero=[100])
    values, output = [Value(name) for name in "abmcsz"], Value("y", Type.f32, (3, 4))
    node = Node("QuantisedMatMul", "n", values, [output], attributes, DOMAIN)
    (found,) = evaluate(node, [a, b, multiplier, bias, np.float32([1, 2, 4]), np.uint8(9)])
    expected = (a.astype(int) - 9) @ (b.astype(int) - 100) * np.float32([[1], [2], [4]]) * multiplier + 0.5
    np.testing.assert_array_equal(found, expected.astype(np.float32))
