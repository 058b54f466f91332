"""ConvNeXt: depthwise 7x7 convolutions, layer normalisation and linear layers over the channels."""

from __future__ import annotations

import onnx

from models.blocks import gelu, layer_norm, norm_of_images
from models.builder import BRANCH, SILU, Builder


def convnext_tiny(
    seed: int = 0,
    *,
    size: int = 224,
    widths: tuple[int, ...] = (96, 192, 384, 768),
    blocks: tuple[int, ...] = (3, 3, 9, 3),
) -> onnx.ModelProto:
    """torchvision's convnext_tiny."""
    b = Builder("convnext_tiny", seed)
    x, channels = b.input("input", 1, 3, size, size), 3
    for stage, (width, count) in enumerate(zip(widths, blocks)):
        with b.scope(f"features.{2 * stage}"):
            patch = 2 if stage else 4
            x = norm_of_images(b, x, channels) if stage else x
            x = b.conv(x, channels, width, patch, patch, pads=[0, 0, 0, 0])
            x = x if stage else norm_of_images(b, x, width)
        channels = width
        for block in range(count):
            with b.scope(f"features.{2 * stage + 1}.{block}"):
                x = b("Add", _branch(b, x, channels), x)
    x = b("Flatten", norm_of_images(b, b("GlobalAveragePool", x), channels), axis=1)
    b.output(b.gemm(x, channels, 1000), "output", 1, 1000)
    return b.model()


def _branch(b: Builder, x: str, channels: int) -> str:
    y = b.conv(x, channels, channels, 7, group=channels)
    y = layer_norm(b, b.transpose(y, 0, 2, 3, 1), channels, 1e-6)
    y = gelu(b, b.matmul(y, channels, 4 * channels, gain=SILU))
    y = b.transpose(b.matmul(y, 4 * channels, channels), 0, 3, 1, 2)
    return b("Mul", y, b.around_one("layer_scale", channels, 1, 1, mean=BRANCH))
