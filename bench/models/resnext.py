"""ResNeXt and RegNet: residual blocks around grouped 3x3 convolutions."""

from __future__ import annotations

import onnx

from models.builder import BRANCH, RELU, Builder

REGNET_Y_400MF = ((48, 1), (104, 3), (208, 6), (440, 6))  # channels and blocks of each stage


def resnext50(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's resnext50_32x4d, batch normalisation folded into the convolutions."""
    b = Builder("resnext50", seed)
    x = b.input("input", 1, 3, size, size)
    x = b("Relu", b.conv(x, 3, 64, 7, 2, gain=RELU))
    x = b("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 128 << stage
        for block in range(blocks):
            with b.scope(f"layer{stage + 1}.{block}"):
                stride = 2 if stage and not block else 1
                y = b("Relu", b.conv(x, channels, width, gain=RELU))
                y = b("Relu", b.conv(y, width, width, 3, stride, group=32, gain=RELU))
                x = _joined(b, x, b.conv(y, width, 2 * width, gain=BRANCH), (channels, 2 * width), stride)
            channels = 2 * width
    return _classified(b, x, channels)


def regnet_y_400mf(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's regnet_y_400mf: groups of 8 channels, squeeze and excitation; batch normalisation folded."""
    b = Builder("regnet_y_400mf", seed)
    x = b.input("input", 1, 3, size, size)
    x, channels = b("Relu", b.conv(x, 3, 32, 3, 2, gain=RELU)), 32
    for stage, (width, blocks) in enumerate(REGNET_Y_400MF):
        for block in range(blocks):
            with b.scope(f"block{stage + 1}.{block}"):
                stride = 1 if block else 2
                y = b("Relu", b.conv(x, channels, width, gain=RELU))
                y = b("Relu", b.conv(y, width, width, 3, stride, group=width // 8, gain=RELU))
                y = _excited(b, y, width, round(channels / 4))
                x = _joined(b, x, b.conv(y, width, width, gain=2 * BRANCH), (channels, width), stride)
            channels = width
    return _classified(b, x, channels)


def _excited(b: Builder, x: str, channels: int, squeezed: int) -> str:
    gate = b("Relu", b.conv(b("GlobalAveragePool", x), channels, squeezed, gain=RELU))
    return b("Mul", b("Sigmoid", b.conv(gate, squeezed, channels)), x)


def _joined(b: Builder, x: str, y: str, sizes: tuple[int, int], stride: int) -> str:
    """Relu of a block's branch and its input, which is projected when the sizes differ."""
    channels, out = sizes
    if stride > 1 or channels != out:
        with b.scope("downsample"):
            x = b.conv(x, channels, out, 1, stride)
    return b("Relu", b("Add", y, x))


def _classified(b: Builder, x: str, channels: int) -> onnx.ModelProto:
    x = b("Flatten", b("GlobalAveragePool", x), axis=1)
    b.output(b.gemm(x, channels, 1000), "output", 1, 1000)
    return b.model()
