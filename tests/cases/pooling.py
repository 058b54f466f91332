"""Pools of images, signals and volumes: windows, strides, paddings, dilations, rounding up, widths and channels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from support.kernels import LANES

from cases.case import Case, Tensor

WINDOWS: dict[str, dict[str, Any]] = {
    "2x2": dict(kernel_shape=[2, 2], strides=[2, 2]),
    "3x3 padded": dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "3x3 padded below": dict(kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    "3x3 stride 1": dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "uneven padding": dict(kernel_shape=[3, 3], pads=[2, 0, 1, 2]),
    "uneven window": dict(kernel_shape=[2, 3], pads=[0, 2, 1, 1], dilations=[2, 1]),
    "dilated": dict(kernel_shape=[3, 2], pads=[1, 1, 0, 0], dilations=[1, 2]),
    "strides beyond the window": dict(kernel_shape=[2, 2], strides=[3, 4], pads=[1, 0, 1, 1]),
    "one pixel": dict(kernel_shape=[1, 1]),
    "large": dict(kernel_shape=[5, 4], strides=[1, 2], pads=[2, 3, 4, 1]),
    "dilated and strided": dict(kernel_shape=[3, 3], strides=[2, 1], pads=[1, 2, 1, 2], dilations=[2, 2]),
    "wide": dict(kernel_shape=[2, 5], strides=[1, 3], pads=[0, 2, 1, 3]),
    "as tall as the stride": dict(kernel_shape=[3, 2], strides=[3, 2], pads=[1, 0, 1, 1]),
    "whole image": dict(kernel_shape=[9, 11]),
}
OTHERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "signal": ((2, 7, 25), dict(kernel_shape=[3], strides=[2], pads=[1, 0])),
    "signal dilated": ((2, 7, 25), dict(kernel_shape=[3], dilations=[4])),
    "volume": ((2, 5, 6, 7, 8), dict(kernel_shape=[2, 2, 2], strides=[2, 2, 2])),
    "volume padded": ((2, 5, 6, 7, 8), dict(kernel_shape=[3, 3, 3], strides=[2, 2, 1], pads=[1] * 6)),
    "volume of images": ((2, 5, 6, 7, 8), dict(kernel_shape=[1, 3, 2], pads=[0, 1, 0, 0, 1, 1])),
    "volume rounded up": ((2, 5, 6, 7, 8), dict(kernel_shape=[3, 3, 3], strides=[2, 2, 2], ceil_mode=1)),
    **{f"same, {pad}": ((1, 5, 8, 9), dict(kernel_shape=[3, 2], strides=[2, 2], auto_pad=pad))
       for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")},
}  # fmt: skip


def pools(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> list[Case]:
    """The largest, the mean, and the mean with the padding counted."""
    x = (Tensor(shape),)
    return [
        Case(f"MaxPool {name}", "MaxPool", x, options),
        Case(f"AveragePool {name}", "AveragePool", x, options),
        Case(f"AveragePool {name}, padding counted", "AveragePool", x, options | dict(count_include_pad=1)),
    ]


PLACES = Tensor((1, 2, 2, 3), np.int64, values=[0, 9, 3, 17, 12, 23, 25, 27, 28, 41, 42, 44])
PLAIN = ("3x3 padded", "uneven window", "dilated", "strides beyond the window", "large")
CASES = [
    Case("MaxUnpool", "MaxUnpool", (Tensor((1, 2, 2, 3)), PLACES), dict(kernel_shape=[2, 2], strides=[2, 2])),
    *(
        Case(f"LpPool {name}, p = {power}", "LpPool", (Tensor((2, 3, 9, 11)),), WINDOWS[name] | dict(p=power))
        for name in PLAIN
        for power in (1, 2, 3)
    ),
    *(
        Case(
            f"MaxPool {name} with indices{', by columns' * order}",
            "MaxPool",
            (Tensor((2, 3, 9, 11), step=1),),
            WINDOWS[name] | dict(storage_order=order),
            outputs=2,
        )
        for name in PLAIN
        for order in (0, 1)
    ),
    *(
        Case(f"MaxPool of {np.dtype(dtype).name}", "MaxPool", (Tensor((2, 3, 9, 11), dtype),), WINDOWS["3x3 padded"])
        for dtype in (np.uint8, np.int8, np.float64)
    ),
    *(
        Case(f"{operator} {name}, {outputs} results", operator, (Tensor(OTHERS[name][0]),), OTHERS[name][1], outputs)
        for name in ("signal", "volume padded", "volume rounded up")
        for operator, outputs in (("LpPool", 1), ("MaxPool", 2))
    ),
    *(
        case
        for (name, options), up in product(WINDOWS.items(), (0, 1))
        # There ONNX's shape inference counts a window that begins in the padding, and ONNX Runtime does not.
        if not (up and name == "strides beyond the window")
        for case in pools(f"{name}{', rounded up' * up}", (1, LANES + 1, 9, 11), options | dict(ceil_mode=up))
    ),
    *(case for name, (shape, options) in OTHERS.items() for case in pools(name, shape, options)),
    *(
        case
        for width in (1, 2, 3, 4, 5, 6, 8, 9, 10, 13, 17)
        for case in pools(f"width {width}", (1, 3, 3, width), WINDOWS["3x3 stride 1"])
    ),
    *(
        case
        for channels in (1, LANES - 1, LANES, 3 * LANES + 5)
        for case in pools(f"{channels} channels", (3, channels, 6, 7), WINDOWS["3x3 padded"])
    ),
    *(
        Case(f"{operator} of {'x'.join(map(str, shape))}", operator, (Tensor(shape),))
        for operator in ("GlobalAveragePool", "GlobalMaxPool")
        for shape in ((3, 3 * LANES + 5, 7, 7), (1, LANES, 1, 1), (2, 5, 1, 3), (2, 7, 25), (1, 4, 3, 4, 5))
    ),
]
