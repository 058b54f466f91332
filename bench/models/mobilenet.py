"""MobileNet v2 and v3: inverted residual blocks."""

from __future__ import annotations

import onnx

from models.blocks import relu6
from models.builder import BRANCH, RELU, SILU, Builder

# expansion, channels, blocks, first stride
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

# kernel, expanded channels, channels, squeeze and excitation, HardSwish instead of Relu, stride
V3_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


def mobilenet_v2(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's mobilenet_v2."""
    b = Builder("mobilenet_v2", seed)
    x, channels = v2_features(b, b.input("input", 1, 3, size, size))
    x = b("Flatten", b("GlobalAveragePool", relu6(b, b.conv(x, channels, 1280, gain=RELU))), axis=1)
    b.output(b.gemm(x, 1280, 1000), "output", 1, 1000)
    return b.model()


def v2_features(b: Builder, x: str, *, largest_stride: int = 32) -> tuple[str, int]:
    """All inverted residual blocks, dilated where they would shrink the image by more; the result and its channels."""
    x = relu6(b, b.conv(x, 3, 32, 3, 2, gain=RELU))
    channels, shrunk, dilation = 32, 2, 1
    for stage, (expansion, out, blocks, first_stride) in enumerate(V2):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            if shrunk * stride > largest_stride:
                stride, dilation = 1, dilation * stride
            shrunk *= stride
            with b.scope(f"features.{stage + 1}.{block}"):
                x = _v2_block(b, x, (channels, expansion * channels, out), stride, dilation)
            channels = out
    return x, channels


def _v2_block(b: Builder, x: str, sizes: tuple[int, int, int], stride: int, dilation: int) -> str:
    channels, hidden, out = sizes
    keeps = stride == 1 and channels == out
    y = x if hidden == channels else relu6(b, b.conv(x, channels, hidden, gain=RELU))
    y = relu6(b, b.conv(y, hidden, hidden, 3, stride, group=hidden, dilation=dilation, gain=RELU))
    y = b.conv(y, hidden, out, gain=BRANCH if keeps else 1.0)
    return b("Add", x, y) if keeps else y


def mobilenet_v3_large(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's mobilenet_v3_large, exported with HardSwish as one operator."""
    b = Builder("mobilenet_v3_large", seed)
    x = b.input("input", 1, 3, size, size)
    x, channels = b("HardSwish", b.conv(x, 3, 16, 3, 2, gain=SILU)), 16
    for index, (kernel, hidden, out, squeeze, swish, stride) in enumerate(V3_LARGE):
        with b.scope(f"features.{index + 1}"):
            x = _v3_block(b, x, (channels, hidden, out), kernel, stride, squeeze, "HardSwish" if swish else "Relu")
        channels = out
    x = b("HardSwish", b.conv(x, channels, 960, gain=SILU))
    x = b("Flatten", b("GlobalAveragePool", x), axis=1)
    x = b("HardSwish", b.gemm(x, 960, 1280, gain=SILU))
    b.output(b.gemm(x, 1280, 1000), "output", 1, 1000)
    return b.model()


def _v3_block(
    b: Builder, x: str, sizes: tuple[int, int, int], kernel: int, stride: int, squeeze: bool, activation: str
) -> str:
    channels, hidden, out = sizes
    gain = SILU if activation == "HardSwish" else RELU
    keeps = stride == 1 and channels == out
    y = x if hidden == channels else b(activation, b.conv(x, channels, hidden, gain=gain))
    y = b(activation, b.conv(y, hidden, hidden, kernel, stride, group=hidden, gain=gain))
    if squeeze:
        narrow = -(-hidden // 32) * 8
        gate = b("Relu", b.conv(b("GlobalAveragePool", y), hidden, narrow, gain=RELU))
        y = b("Mul", b("HardSigmoid", b.conv(gate, narrow, hidden), alpha=1 / 6, beta=0.5), y)
    y = b.conv(y, hidden, out, gain=(BRANCH if keeps else 1.0) * (2.0 if squeeze else 1.0))
    return b("Add", y, x) if keeps else y
