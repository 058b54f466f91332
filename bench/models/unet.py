"""U-Net: an encoder and a decoder of double convolutions, joined by concatenation."""

from __future__ import annotations

from math import sqrt

import onnx

from models.builder import RELU, Builder


def unet(seed: int = 0, *, size: int = 256, width: int = 32) -> onnx.ModelProto:
    """The U-Net for brain MRI of the torch hub: four levels, transposed convolutions, one probability per pixel."""
    b = Builder("unet", seed)
    x, channels = b.input("input", 1, 3, size, size), 3
    skipped = []
    for level in range(4):
        with b.scope(f"encoder{level + 1}"):
            skipped.append(_double_convolution(b, x, channels, width << level))
        x, channels = b("MaxPool", skipped[-1], kernel_shape=[2, 2], strides=[2, 2]), width << level
    with b.scope("bottleneck"):
        x = _double_convolution(b, x, channels, 2 * channels)
    for level in reversed(range(4)):
        out = width << level
        with b.scope(f"upconv{level + 1}"):
            weights = b.weight("weight", 2 * out, out, 2, 2, deviation=1 / sqrt(2 * out)), b.weight("bias", out)
            x = b("ConvTranspose", x, *weights, kernel_shape=[2, 2], strides=[2, 2])
        with b.scope(f"decoder{level + 1}"):
            x = _double_convolution(b, b("Concat", x, skipped[level], axis=1), 2 * out, out)
    b.output(b("Sigmoid", b.conv(x, width, 1)), "output", 1, 1, size, size)
    return b.model()


def _double_convolution(b: Builder, x: str, channels: int, out: int) -> str:
    x = b("Relu", b.conv(x, channels, out, 3, gain=RELU))
    return b("Relu", b.conv(x, out, out, 3, gain=RELU))
