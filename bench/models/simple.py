"""Multilayer perceptron and ResNet-18."""

from __future__ import annotations

import onnx

from models.builder import BRANCH, RELU, Builder


def mlp(seed: int = 0, *, width: int = 64, layers: int = 3) -> onnx.ModelProto:
    """Layers of `width`, with a Relu between them."""
    b = Builder("mlp", seed)
    x = b.input("input", 1, width)
    for index in range(layers):
        last = index == layers - 1
        with b.scope(f"layers.{index}"):
            x = b.gemm(x, width, width, gain=1.0 if last else RELU)
            x = x if last else b("Relu", x)
    b.output(x, "output", 1, width)
    return b.model()


def resnet18(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's resnet18, batch normalisation folded into the convolutions."""
    b = Builder("resnet18", seed)
    x = b.input("input", 1, 3, size, size)
    x = b("Relu", b.conv(x, 3, 64, 7, 2, gain=RELU))
    x = b("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    channels = 64
    for stage, out in enumerate((64, 128, 256, 512)):
        for block in range(2):
            with b.scope(f"layer{stage + 1}.{block}"):
                x = _basic_block(b, x, channels, out, stride=2 if stage and not block else 1)
            channels = out
    x = b("Flatten", b("GlobalAveragePool", x), axis=1)
    b.output(b.gemm(x, channels, 1000), "output", 1, 1000)
    return b.model()


def _basic_block(b: Builder, x: str, channels: int, out: int, stride: int) -> str:
    y = b("Relu", b.conv(x, channels, out, 3, stride, gain=RELU))
    y = b.conv(y, out, out, 3, gain=BRANCH)
    if stride > 1:
        with b.scope("downsample"):
            x = b.conv(x, channels, out, 1, stride)
    return b("Relu", b("Add", y, x))
