"""Transposed convolutions: strides, dilations, padding on both sides, groups, signals."""

from __future__ import annotations

from math import prod
from typing import Any

from cases.case import Case, Tensor, weights

LAYERS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any]]] = {
    "kernel as stride": ((1, 32, 6, 7), 16, (2, 2), dict(strides=[2, 2])),
    "kernel beyond stride": ((2, 20, 4, 5), 19, (4, 4), dict(strides=[2, 2], pads=[1, 1, 1, 1])),
    "uneven kernel beyond stride": ((2, 19, 3, 4), 33, (4, 3), dict(strides=[2, 2], pads=[1, 1, 0, 2])),
    "phases without elements": ((1, 3, 3, 2), 5, (1, 2), dict(strides=[3, 4])),
    "to one image": ((1, 40, 1, 1), 33, (4, 4), {}),
    "output padding": ((1, 17, 6, 5), 18, (3, 3), dict(strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])),
    "uneven output padding": ((1, 7, 3, 3), 17, (3, 3), dict(strides=[2, 3], output_padding=[1, 2])),
    "stride 1": ((1, 19, 7, 7), 20, (3, 3), dict(pads=[1, 1, 1, 1])),
    "stride beyond the kernel": ((1, 5, 4, 3), 21, (2, 2), dict(strides=[3, 5])),
    "dilated": ((1, 6, 5, 6), 7, (3, 3), dict(strides=[2, 3], dilations=[3, 2], pads=[2, 1, 0, 3])),
    "dilated by the stride": ((1, 6, 5, 6), 7, (2, 2), dict(strides=[2, 2], dilations=[2, 4])),
    "uneven": ((2, 18, 5, 9), 40, (1, 4), dict(strides=[1, 2], pads=[0, 3, 0, 1])),
    "more padding than kernel": ((1, 4, 6, 6), 3, (2, 2), dict(pads=[3, 2, 1, 0])),
    "wide": ((1, 4, 2, 31), 4, (2, 3), dict(strides=[1, 2], pads=[1, 1, 1, 1])),
    "grouped": ((1, 24, 5, 4), 36, (3, 3), dict(group=4, strides=[2, 2])),
    "groups of blocks": ((1, 64, 5, 4), 32, (3, 3), dict(group=2, strides=[2, 2])),
    "depthwise": ((1, 21, 6, 5), 21, (4, 4), dict(group=21, strides=[2, 2], pads=[1, 1, 1, 1])),
    "auto_pad SAME_UPPER": ((1, 6, 5, 6), 7, (3, 3), dict(strides=[2, 3], auto_pad="SAME_UPPER")),
    "auto_pad VALID": ((1, 6, 5, 6), 7, (3, 3), dict(strides=[2, 3], auto_pad="VALID")),
    "output shape": ((1, 6, 5, 6), 7, (3, 3), dict(strides=[2, 2], output_shape=[10, 12])),
    "signal": ((2, 12, 20), 10, (4,), dict(strides=[2], pads=[1, 1])),
    "wide signal": ((1, 40, 9), 20, (16,), dict(strides=[8], pads=[4, 4])),
}


def layer(name: str, shape: tuple[int, ...], channels: int, kernel: tuple[int, ...], options: dict[str, Any]) -> Case:
    """With a bias; weights keep the size of what they multiply."""
    width, scale = channels // options.get("group", 1), (shape[1] * prod(kernel)) ** -0.5
    inputs = (Tensor(shape), weights(shape[1], width, *kernel, scale=scale), weights(channels))
    return Case(name, "ConvTranspose", inputs, options)


CASES = [layer(name, *row) for name, row in LAYERS.items()]
