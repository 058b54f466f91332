"""EfficientNet-B0: inverted residual blocks with squeeze and excitation, SiLU spelled out."""

from __future__ import annotations

import onnx

from models.blocks import silu
from models.builder import BRANCH, SILU, Builder

# expansion, kernel, first stride, channels, blocks
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
GATED = 1.9  # gain that makes up for a gate between 0 and 1


def efficientnet_b0(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's efficientnet_b0."""
    b = Builder("efficientnet_b0", seed)
    x = b.input("input", 1, 3, size, size)
    x, channels = silu(b, b.conv(x, 3, 32, 3, 2, gain=SILU)), 32
    for stage, (expansion, kernel, first_stride, out, blocks) in enumerate(STAGES):
        for block in range(blocks):
            with b.scope(f"features.{stage + 1}.{block}"):
                stride = first_stride if block == 0 else 1
                x = _block(b, x, channels, expansion * channels, out, kernel, stride)
            channels = out
    x = silu(b, b.conv(x, channels, 1280, gain=SILU))
    x = b("Flatten", b("GlobalAveragePool", x), axis=1)
    b.output(b.gemm(x, 1280, 1000), "output", 1, 1000)
    return b.model()


def _block(b: Builder, x: str, channels: int, hidden: int, out: int, kernel: int, stride: int) -> str:
    keeps = stride == 1 and channels == out
    y = x if hidden == channels else silu(b, b.conv(x, channels, hidden, gain=SILU))
    y = silu(b, b.conv(y, hidden, hidden, kernel, stride, group=hidden, gain=SILU))
    narrow = max(1, channels // 4)
    gate = silu(b, b.conv(b("GlobalAveragePool", y), hidden, narrow, gain=SILU))
    y = b("Mul", b("Sigmoid", b.conv(gate, narrow, hidden)), y)
    y = b.conv(y, hidden, out, gain=(BRANCH if keeps else 1.0) * GATED)
    return b("Add", y, x) if keeps else y
