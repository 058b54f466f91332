"""Small models of every operator family with kernels, from ONNX to results: each computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from support.judge import Net, compare

CONVOLUTIONS: dict[str, tuple[tuple[int, ...], int, Any, dict[str, Any]]] = {
    "3x3": ((1, 16, 9, 9), 32, 3, dict(pads=[1, 1, 1, 1])),
    "batch": ((3, 5, 7, 9), 21, 3, dict(pads=[1, 1, 1, 1])),
    "first layer": ((2, 3, 23, 19), 20, 7, dict(pads=[3, 3, 3, 3], strides=[2, 2])),
    "first layer of one channel": ((1, 1, 12, 12), 6, 5, {}),
    "first layer, dilated": ((1, 2, 15, 15), 8, 3, dict(dilations=[2, 3])),
    "first layer, more padding than kernel": ((1, 3, 5, 5), 18, 1, dict(pads=[3, 3, 3, 3])),
    "pointwise": ((2, 24, 5, 7), 40, 1, {}),
    "pointwise, strided": ((1, 33, 9, 8), 17, 1, dict(strides=[2, 3])),
    "pointwise, padded": ((1, 20, 4, 4), 20, 1, dict(pads=[0, 2, 1, 0])),
    "uneven kernel": ((1, 18, 11, 13), 10, (1, 7), dict(pads=[0, 3, 0, 3])),
    "tall kernel": ((1, 18, 13, 6), 10, (5, 1), dict(pads=[4, 0, 0, 0])),
    "dilated": ((1, 17, 14, 15), 16, 3, dict(dilations=[2, 3], pads=[2, 3, 2, 3])),
    "strides beyond the kernel": ((1, 19, 17, 16), 9, 2, dict(strides=[5, 4])),
    "uneven padding": ((1, 19, 8, 9), 34, (3, 4), dict(pads=[0, 3, 2, 1])),
    "more padding than image": ((1, 8, 2, 2), 8, 3, dict(pads=[4, 5, 4, 5])),
    "one pixel": ((1, 40, 1, 1), 70, 1, {}),
    "one pixel of a 3x3": ((1, 40, 3, 3), 70, 3, {}),
    "groups of whole blocks": ((1, 64, 6, 6), 64, 3, dict(group=2, pads=[1, 1, 1, 1])),
    "groups of parts of blocks": ((2, 24, 7, 6), 36, 3, dict(group=4)),
    "groups of three channels": ((1, 21, 6, 5), 14, 1, dict(group=7)),
    "depthwise": ((2, 40, 9, 7), 40, 3, dict(group=40, pads=[1, 1, 1, 1])),
    "depthwise, strided and dilated": ((1, 18, 16, 15), 18, 3, dict(group=18, strides=[2, 1], dilations=[2, 2])),
    "depthwise with a multiplier": ((1, 6, 8, 8), 18, 3, dict(group=6)),
    "signal": ((2, 12, 40), 20, (5,), dict(pads=[2, 2], strides=[2])),
    "signal of few channels": ((1, 2, 33), 9, (7,), dict(dilations=[2])),
    "signal, depthwise": ((1, 20, 31), 20, (3,), dict(group=20, pads=[2, 0])),
    "signal, grouped": ((1, 20, 31), 30, (3,), dict(group=5)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    shape, out, kernel, options = CONVOLUTIONS[case]
    n = Net()
    n.output(n.conv(n.input(*shape), shape[1], out, kernel, **options))
    compare(n.model())


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3]])
def test_auto_pad(auto_pad: str, strides: list[int]) -> None:
    n = Net()
    x = n.input(1, 6, 11, 10)
    options = dict(auto_pad=auto_pad, strides=strides)
    n.output(n.conv(x, 6, 19, (4, 3), **options), n("MaxPool", x, kernel_shape=[4, 2], **options))
    n.output(n("AveragePool", x, kernel_shape=[3, 4], **options))
    compare(n.model())


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu"])
def test_epilogues(activation: str) -> None:
    n = Net()
    x = n.input(1, 3, 8, 9)
    first = n(activation, n.norm(n.conv(x, 3, 20, pads=[1] * 4), 20))
    second = n("Clip", n.conv(first, 20, 20, pads=[1] * 4), n.constant(-0.5), n.constant(0.5))
    third = n(activation, n("Add", n.conv(second, 20, 20, pads=[1] * 4), first))
    fourth = n("Mul", third, n("Sigmoid", third))
    n.output(n(activation, n("Gemm", n("Flatten", fourth), n.weights(20 * 72, 7), n.weights(7))))
    compare(n.model())


@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 3, 0], [0, 1, 0, 0, 1, 2, 0, 0], [0, 0, 3, 3, 0, 0, 3, 3]])
def test_pad_before_a_convolution(pads: list[int]) -> None:
    n = Net()
    x = n.input(1, 5, 8, 9)
    channels = 5 + pads[1] + pads[5]
    padded = n("Pad", x, n.integers(*pads), n.constant(0.0))
    n.output(n.conv(padded, channels, 12, 3))
    compare(n.model())


def test_normalisations() -> None:
    n = Net()
    x = n.input(2, 19, 6, 7)
    n.output(n("LRN", x, size=5, alpha=0.3, beta=0.6, bias=1.5), n("LRN", x, size=3, alpha=2.0))
    n.output(n.norm(n("Relu", x), 19), n("Relu", n.norm(x, 19)))
    rows = n.input(5, 21)
    n.output(n.norm(rows, 21), n.norm(n.input(3, 4, 9), 4))
    compare(n.model())


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_softmax(axis: int) -> None:
    n = Net()
    y = n.conv(n.input(2, 4, 6, 5), 4, 21, pads=[1] * 4)
    n.output(n("Softmax", y, axis=axis), n("LogSoftmax", y, axis=axis))
    compare(n.model())


@pytest.mark.parametrize("rows", [(1, 30), (7, 30), (2, 5, 30), (2, 3, 4, 30)])
def test_fully_connected(rows: tuple[int, ...]) -> None:
    n = Net()
    x = n.input(*rows)
    y = n("Relu", n("Add", n("MatMul", x, n.weights(30, 45)), n.weights(45)))
    z = n("MatMul", y, n.weights(45, 30))
    n.output(n("Tanh", n("Add", z, x)))
    compare(n.model())


def test_products_of_activations() -> None:
    n = Net()
    a, b, c = n.input(2, 3, 5, 8), n.input(2, 3, 8, 20), n.input(8, 20)
    n.output(n("MatMul", a, b), n("MatMul", a, c), n("MatMul", n.input(4, 8), b))
    q, k, v = n.input(2, 4, 9, 16), n.input(2, 4, 16, 9), n.input(2, 4, 9, 16)
    scores = n("Softmax", n("Mul", n("MatMul", q, k), n.constant(0.25)), axis=-1)
    n.output(n("MatMul", scores, v))
    compare(n.model())


@pytest.mark.parametrize("parts", [(16, 32), (16, 7), (7, 16), (3, 5, 9), (33, 1, 15), (40,)])
def test_concat_of_channels(parts: tuple[int, ...]) -> None:
    """Convolutions that write into their slices, with consumers of whole and parts that want halos."""
    n = Net()
    x = n("Relu", n.conv(n.input(2, 4, 7, 6), 4, 16))
    branches = [n.conv(x, 16, part, 1 + 2 * (i % 2), pads=[i % 2] * 4) for i, part in enumerate(parts)]
    whole = n("Concat", *branches, axis=1)
    n.output(n.conv(whole, sum(parts), 8, 3, pads=[1, 2, 1, 0]), n("Relu", branches[0]))
    n.output(n("MaxPool", n("Concat", whole, x, axis=1), kernel_shape=[2, 2]))
    compare(n.model())


def test_concat_of_anything() -> None:
    n = Net()
    x, y = n.input(2, 5, 4, 4), n.input(2, 5, 4, 4)
    blocked = n("MaxPool", n("Concat", x, y, axis=1), kernel_shape=[1, 1])
    n.output(n("Concat", blocked, n.weights(2, 3, 4, 4), blocked, axis=1), n("Concat", x, y, x, axis=2))
    n.output(n("Concat", n.conv(x, 5, 5, 1), n.conv(y, 5, 5, 1), axis=0))
    n.output(n("Concat", x, y, axis=-1))
    compare(n.model())


@pytest.mark.parametrize("channels", [16, 22])
@pytest.mark.parametrize("by_gemm", [True, False])
def test_squeeze_and_excitation(channels: int, by_gemm: bool) -> None:
    n = Net()
    x = n.conv(n.input(3, 3, 9, 8), 3, channels, pads=[1] * 4)
    s = n("GlobalAveragePool", x)
    if by_gemm:
        s = n("Relu", n("Gemm", n("Flatten", s), n.weights(channels, 5), n.weights(5)))
        s = n("Gemm", s, n.weights(5, channels), n.weights(channels))
        s = n("Unsqueeze", s, n.integers(2, 3))
    else:
        s = n.conv(n("Relu", n.conv(s, channels, 5, 1)), 5, channels, 1)
    n.output(n("Mul", x, n("Sigmoid", s)), n("Mul", n("HardSigmoid", s), x))
    compare(n.model())


def test_residual_chain() -> None:
    n = Net()
    x = n.conv(n.input(1, 3, 14, 14), 3, 24, pads=[1] * 4)
    for step in range(4):
        branch = n("Relu", n.norm(n.conv(x, 24, 24, pads=[1] * 4), 24))
        branch = n.norm(n.conv(branch, 24, 24, 1), 24)
        x = n("Relu", n("Add", *((x, branch) if step % 2 else (branch, x))))
    n.output(x, branch)
    compare(n.model(), tolerance=2e-5)


@pytest.mark.parametrize("channels", [16, 20, 1])
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max"])
def test_broadcasting_in_blocked_layout(op_type: str, channels: int) -> None:
    n = Net()
    image = n("Exp", n("Tanh", n.conv(n.input(2, 3, 6, 5), 3, channels, pads=[1] * 4)))
    shapes = [(1, channels, 1, 1), (2, 1, 6, 5), (1, 1, 1, 5), (1, 1, 6, 1), (), (1,), (channels, 1, 1), (5,)]
    for shape in shapes:
        n.output(n(op_type, image, n.positive(*shape)))
    for shape in [(2, 1, 6, 5), (2, channels, 1, 1), (1, 1, 1, 1), (1, channels, 6, 1), (6, 5)]:
        other = n("Exp", n.input(*shape))
        n.output(n(op_type, image, other), n(op_type, other, image))
    n.output(n(op_type, n.conv(image, channels, channels, 3), n("Exp", n.conv(image, channels, 1, 3))))
    n.output(n(op_type, n("Exp", n("GlobalMaxPool", image)), image))
    compare(n.model(), tolerance=2e-5)


def test_elementwise_functions_of_blocked_and_plain_tensors() -> None:
    n = Net(opset=18)
    blocked, plain = n.conv(n.input(1, 3, 5, 6), 3, 19), n.input(3, 7)
    for op_type in ["Abs", "Neg", "Exp", "Sigmoid", "Tanh", "Softplus", "Softsign", "Selu", "Ceil", "Floor", "Round",
                    "Erf", "Sign", "Mish", "HardSwish"]:  # fmt: skip
        n.output(n(op_type, blocked), n(op_type, plain))
    for op_type in ["Sqrt", "Log", "Reciprocal"]:
        n.output(n(op_type, n("Exp", blocked)), n(op_type, n("Exp", plain)))
    n.output(n("PRelu", blocked, n.positive(19, 1, 1)), n("Pow", n("Exp", plain), n.constant(1.5)))
    n.output(n("Clip", plain, n.constant(-1.0), n.constant(1.0)), n("ThresholdedRelu", plain, alpha=0.5))
    compare(n.model())


@pytest.mark.parametrize("axes", [[2, 3], [1], [0, 1], [3], [0, 1, 2, 3]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(axes: list[int], keepdims: int) -> None:
    n = Net()
    y = n.conv(n.input(2, 3, 6, 5), 3, 18, pads=[1] * 4)
    for op_type in ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"]:
        n.output(n(op_type, y, axes=axes, keepdims=keepdims))
    n.output(n("ReduceSum", y, n.integers(*axes), keepdims=keepdims))
    compare(n.model())


def test_movement() -> None:
    n = Net(opset=18)
    x = n.input(2, 6, 7, 5)
    y = n.conv(x, 6, 18, pads=[1] * 4)
    for value in (x, y):
        n.output(n("Transpose", value, perm=[0, 2, 3, 1]), n("Transpose", value, perm=[3, 0, 2, 1]))
        n.output(n("Slice", value, n.integers(1, -2), n.integers(100, -100), n.integers(1, 2), n.integers(2, -1)))
        n.output(*n.many(2, "Split", value, n.integers(4, 3), axis=2))
        n.output(*n.many(2, "Split", value, axis=1, num_outputs=2))
        n.output(n("Gather", value, n.integers(3, -1, 0), axis=1), n("Gather", value, n.constant(1, np.int32), axis=0))
        n.output(n("Reshape", value, n.integers(0, -1, 5)), n("Flatten", value, axis=2))
    n.output(n("Expand", n.input(3, 1), n.integers(2, 3, 4)), n("Squeeze", n.input(1, 4, 1), n.integers(0)))
    compare(n.model())


def test_channel_shuffle_and_transposed_layouts() -> None:
    n = Net()
    x = n.input(2, 9, 10, 3)
    y = n.conv(n("Transpose", x, perm=[0, 3, 1, 2]), 3, 24, pads=[1] * 4)
    y = n("Reshape", y, n.integers(2, 3, 8, 9, 10))
    y = n("Reshape", n("Transpose", y, perm=[0, 2, 1, 3, 4]), n.integers(2, 24, 9, 10))
    n.output(n("Transpose", n.conv(y, 24, 24, group=24), perm=[0, 2, 3, 1]))
    compare(n.model())


def test_conditions_and_casts() -> None:
    n = Net()
    x, y = n.input(3, 4), n.input(4)
    for op_type in ["Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual"]:
        n.output(n("Where", n(op_type, x, y), x, y))
    larger = n("Greater", x, y)
    n.output(n("And", larger, n("Not", larger)), n("Or", larger, larger), n("Where", larger, n.constant(1.0), x))
    for kind in (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.UINT8):
        n.output(n("Cast", n("Abs", x), to=kind), n("Cast", n("Cast", n("Abs", y), to=kind), to=TensorProto.FLOAT))
    compare(n.model())


def test_integers() -> None:
    n = Net()
    for dtype in (np.int64, np.int32):
        x, y = n.input(3, 4, dtype=dtype), n.input(4, dtype=dtype)
        for op_type in ["Add", "Sub", "Mul", "Max", "Min", "Equal", "Greater"]:
            n.output(n(op_type, x, y))
        n.output(n("Div", x, n.constant([3, -2, 5, 1], dtype)), n("Mod", x, n.constant([3, -2, 5, 1], dtype)))
        n.output(n("Abs", x), n("Neg", x), n("ReduceMax", x, axes=[1]), n("Concat", x, x, axis=0))
        n.output(n("Gather", n.weights(9, 5), n("Clip", x, n.constant(-9, dtype), n.constant(8, dtype)), axis=0))
        n.output(n("ReduceSum", x, n.integers(0)))
    compare(n.model())
