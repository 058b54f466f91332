"""Swin transformer: attention inside windows of an image, shifted in every other block."""

from __future__ import annotations

import numpy as np
import onnx

from models.blocks import gelu, layer_norm
from models.builder import BRANCH, SILU, Builder

WINDOW = 7
HEAD = 32  # width of a head
LAST = 2**63 - 1


def swin_tiny(seed: int = 0, *, size: int = 224, blocks: tuple[int, ...] = (2, 2, 6, 2)) -> onnx.ModelProto:
    """torchvision's swin_t; `size` must be a multiple of 4 * 7 * 2**(stages - 1)."""
    b = Builder("swin_tiny", seed)
    channels, extent = 96, size // 4
    x = b.conv(b.input("input", 1, 3, size, size), 3, channels, 4, 4, pads=[0, 0, 0, 0])
    x = layer_norm(b, b.transpose(x, 0, 2, 3, 1), channels)
    for stage, count in enumerate(blocks):
        if stage:
            with b.scope(f"features.{2 * stage}"):
                x = _merged(b, x, channels)
            channels, extent = 2 * channels, extent // 2
        for block in range(count):
            with b.scope(f"features.{2 * stage + 1}.{block}"):
                shift = WINDOW // 2 if block % 2 and extent > WINDOW else 0
                x = b("Add", x, _attention(b, layer_norm(b, x, channels), channels, extent, shift))
                x = b("Add", x, _mlp(b, layer_norm(b, x, channels), channels))
    x = b.transpose(layer_norm(b, x, channels), 0, 3, 1, 2)
    x = b("Flatten", b("GlobalAveragePool", x), axis=1)
    b.output(b.gemm(x, channels, 1000), "output", 1, 1000)
    return b.model()


def _mlp(b: Builder, x: str, channels: int) -> str:
    with b.scope("mlp"):
        x = gelu(b, b.matmul(x, channels, 4 * channels, gain=SILU))
        return b.matmul(x, 4 * channels, channels, gain=BRANCH)


def _merged(b: Builder, x: str, channels: int) -> str:
    """Every 2x2 pixels joined into one of twice the channels."""
    even, odd = (b.slice(x, 1, start, LAST, 2) for start in (0, 1))
    parts = (b.slice(rows, 2, start, LAST, 2) for start in (0, 1) for rows in (even, odd))
    x = layer_norm(b, b("Concat", *parts, axis=-1), 4 * channels)
    return b.matmul(x, 4 * channels, 2 * channels, bias=False)


def _rolled(b: Builder, x: str, shift: int) -> str:
    """torch.roll by -shift over rows and columns."""
    for axis in (1, 2):
        x = b("Concat", b.slice(x, axis, shift, LAST), b.slice(x, axis, 0, shift), axis=axis)
    return x


def _attention(b: Builder, x: str, channels: int, extent: int, shift: int) -> str:
    with b.scope("attn"):
        side, heads, length = extent // WINDOW, channels // HEAD, WINDOW * WINDOW
        windows = side * side
        x = _rolled(b, x, shift) if shift else x
        x = b.transpose(b.reshape(x, 1, side, WINDOW, side, WINDOW, channels), 0, 1, 3, 2, 4, 5)
        x = b.matmul(b.reshape(x, windows, length, channels), channels, 3 * channels)
        x = b.transpose(b.reshape(x, windows, length, 3, heads, HEAD), 2, 0, 3, 1, 4)
        query, key, value = (b("Gather", x, b.constant(index), axis=0) for index in range(3))
        query = b("Mul", query, b.constant(HEAD**-0.5))
        scores = b("MatMul", query, b.transpose(key, 0, 1, 3, 2))
        scores = b("Add", scores, b.weight("relative_position_bias", 1, heads, length, length))
        if shift:
            scores = b.reshape(scores, 1, windows, heads, length, length)
            scores = b("Add", scores, b.constant(_mask(extent, shift)))
            scores = b.reshape(scores, -1, heads, length, length)
        x = b.transpose(b("MatMul", b("Softmax", scores, axis=-1), value), 0, 2, 1, 3)
        x = b.matmul(b.reshape(x, windows, length, channels), channels, channels, gain=BRANCH)
        x = b.transpose(b.reshape(x, 1, side, side, WINDOW, WINDOW, channels), 0, 1, 3, 2, 4, 5)
        x = b.reshape(x, 1, extent, extent, channels)
        return _rolled(b, x, extent - shift) if shift else x


def _mask(extent: int, shift: int) -> np.ndarray:
    """-100 between pixels of a window that were not neighbours before the shift, [1, windows, 1, length, length]."""
    region = np.searchsorted([extent - WINDOW, extent - shift], np.arange(extent), side="right")
    regions = (3 * region[:, None] + region).reshape(extent // WINDOW, WINDOW, extent // WINDOW, WINDOW)
    regions = regions.transpose(0, 2, 1, 3).reshape(1, -1, 1, WINDOW * WINDOW)
    return np.where(regions[..., None] == regions[..., None, :], np.float32(0), np.float32(-100))
