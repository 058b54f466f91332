"""Depthwise convolutions and narrow groups, around vectors and the lane tiles."""

from __future__ import annotations

from itertools import product
from typing import Any

from support.kernels import LANES

from cases.convolution import DILATIONS, Convolution
from cpuruntime.program.convolution.geometry import MOST_NARROW


def depthwise(
    x: tuple[int, ...], kernel: tuple[int, ...] = (3, 3), pads: tuple[int, ...] = (1, 1, 1, 1), **more: Any
) -> Convolution:
    """One result of each channel."""
    return Convolution(x, x[1], kernel, pads, group=x[1], **more)


POWERS = [1 << i for i in range(LANES.bit_length())]
NARROW = [(i, o) for o in POWERS for i in POWERS if i <= min(o, MOST_NARROW) and o > 1]
"""Inputs and outputs of a group that lies within a vector."""

WIDTHS = [depthwise((2, LANES, 3, width)) for width in (1, 2, 3, 4, 6, 7, 8, 9, 10, 13, 14, 15, 17, 27, 29)]

RUNS = [
    depthwise((2, LANES, 3, 23), (2, kernel), (1, kernel // 2, 0, 1), strides=(1, stride))
    for kernel, stride in product((1, 2, 3, 4, 5, 6, 7, 8, 9, 11), (1, 2, 3))
]

NARROW_GROUPS = [
    Convolution((2, inputs * groups, 4, 9), outputs * groups, group=groups, residual=True)
    for (inputs, outputs), groups in product(NARROW, (LANES // 2 + 1, 2 * LANES))
]

NARROW_WINDOWS = [
    Convolution(
        (1, inputs * (LANES + 3), 6, 14), outputs * (LANES + 3), kernel,
        tuple((k - 1) * d // 2 for k, d in zip(kernel, dilations)) * 2, strides, dilations, group=LANES + 3,
    )
    for (inputs, outputs), (kernel, strides, dilations) in product(
        ((1, 2), (2, 2), (2, 4), (4, 4)),
        (
            ((1, 1), (1, 1), (1, 1)), ((5, 5), (2, 2), (1, 1)), ((3, 9), (1, 1), (1, 1)), ((3, 3), (1, 3), (2, 2)),
        ),
    )
]  # fmt: skip

OTHERS = [
    *(
        depthwise((3, channels, 5, 5))
        for channels in (2, LANES - 1, LANES, LANES + 1, 3 * LANES, 3 * LANES + 2)
    ),
    *(
        depthwise((1, LANES + 3, 8, 13), kernel, pads, strides=(stride, stride))
        for stride in (1, 2, 3, 4)
        for kernel, pads in (
            ((3, 3), (0, 2, 1, 0)), ((1, 1), (0, 0, 0, 0)), ((5, 2), (4, 1, 6, 0)), ((7, 7), (3, 3, 3, 3)),
        )
    ),
    depthwise((1, LANES, 7, 15), strides=(3, 2)),
    *(depthwise((2, LANES, 7, 9), pads=pads, dilations=dilations) for dilations, pads in DILATIONS),
    depthwise((1, LANES, 2, 7), pads=(4, 5, 6, 7)),  # whole rows of the result see no pixel
    *(
        depthwise((2, LANES + 1, 4, 7), residual=residual, activation=function, arguments=arguments, bias=bias)
        for residual, bias, (function, arguments) in product(
            (False, True), (False, True), (("", ()), ("Relu", ()), ("Clip", (0.0, 1.0)), ("LeakyRelu", (0.25,)))
        )
    ),
    depthwise((2, LANES + 5, 17), (3,), (2, 1), strides=(2,), dilations=(1,)),
]  # fmt: skip

CASES = tuple(dict.fromkeys((*WIDTHS, *RUNS, *NARROW_GROUPS, *NARROW_WINDOWS, *OTHERS)))
