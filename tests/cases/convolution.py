"""Dense and grouped convolutions with what is fused into them, around vectors and a tile of `ROWS` x `COLUMNS`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import inf, prod
from typing import Any

import numpy as np
from support.kernels import LANES
from support.programs import activation, random_array

from cpuruntime.graph import Graph, Node, Value

ROWS, COLUMNS = 4, 2


@dataclass(frozen=True)
class Convolution:
    """One convolution; `x` is [N, C, H, W] or [N, C, W], `pads` are begins, then ends."""

    x: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...] = (3, 3)
    pads: tuple[int, ...] = (1, 1, 1, 1)
    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1
    bias: bool = True
    residual: bool = False
    activation: str = ""
    arguments: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """All that differs from a plain convolution with bias: `3x3/2 1x64x56x56 -> 128 pads 1 +residual >Relu`."""
        strides = "" if set(self.strides) == {1} else f"/{_shortly(self.strides)}"
        words = [f"{'x'.join(map(str, self.kernel))}{strides} {'x'.join(map(str, self.x))} -> {self.channels}"]
        words += [f"pads {_shortly(self.pads)}"] * any(self.pads)
        words += [f"dilated {_shortly(self.dilations)}"] * (set(self.dilations) != {1})
        words += [f"groups {self.group}"] * (self.group > 1) + ["-bias"] * (not self.bias)
        words += ["+residual"] * self.residual
        words += [f">{self.activation}{self.arguments or ''}"] * bool(self.activation)
        return " ".join(words)

    @property
    def output_shape(self) -> tuple[int, ...]:
        rank, spatial = len(self.kernel), []
        for i, extent in enumerate(self.x[2:]):
            room = extent + self.pads[i] + self.pads[rank + i] - (self.kernel[i] - 1) * self.dilations[i] - 1
            spatial.append(room // self.strides[i] + 1)
        return (self.x[0], self.channels, *spatial)

    @property
    def terms(self) -> int:
        """Products in one element of the result."""
        return prod(self.kernel) * self.x[1] // self.group

    @property
    def inputs(self) -> list[np.ndarray]:
        """x, and the residual if there is one."""
        residual = [random_array(self.output_shape, 3)] if self.residual else []
        return [random_array(self.x), *residual]

    @property
    def weights(self) -> np.ndarray:
        return random_array((self.channels, self.x[1] // self.group, *self.kernel), 1)

    def node(self) -> Node:
        """The fused node that the planner lowers."""
        inputs = [
            activation("x", self.x),
            Value.of("w", self.weights),
            Value.of("b", random_array((self.channels,), 2)) if self.bias else None,
            activation("residual", self.output_shape) if self.residual else None,
        ]
        attributes: dict[str, Any] = {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": list(self.pads),
            "group": self.group,
            "activation": self.activation,
            "activation_arguments": list(self.arguments),
        }
        return Node("Conv", "c", inputs, [activation("y", self.output_shape)], attributes, "cpuruntime")

    def graph(self) -> Graph:
        """The graph that the CPU device plans."""
        node = self.node()
        return Graph("convolution", [v for v in node.inputs if v and v.constant is None], node.outputs, [node])

    def feeds(self) -> dict[str, np.ndarray]:
        """The numbers of the graph's inputs, by name."""
        return dict(zip(("x", "residual"), self.inputs))


def _shortly(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers if len(set(numbers)) > 1 else numbers[:1]))


NO_PADS = (0, 0, 0, 0)
PADDINGS = (NO_PADS, (1, 0, 0, 0), (0, 3, 0, 0), (0, 0, 2, 0), (0, 0, 0, 3))
DILATIONS = (((2, 1), (1, 1, 1, 1)), ((1, 3), (0, 2, 0, 4)), ((3, 2), (5, 3, 2, 3)), ((9, 1), (9, 1, 9, 1)))

DENSE = [
    *(
        Convolution((2, 2 * LANES, 3, width), 2 * LANES)
        for width in (ROWS, ROWS + 1, *range(2 * ROWS - 1, 2 * ROWS + 2))
    ),
    *(
        Convolution((1, 2 * LANES, 3, 5), channels, residual=True)
        for channels in (*range(2 * LANES - 1, 2 * LANES + 2), LANES + 1, 4 * LANES, 4 * LANES + 3, 5 * LANES)
    ),
    *(
        Convolution((2, channels, 3, 5), 2 * LANES)
        for channels in (5, LANES - 1, LANES, LANES + 1, 3 * LANES, 3 * LANES + 2)
    ),
    *(
        Convolution((1, 2 * LANES, 7, 18), 2 * LANES, kernel, pads, (stride, stride))
        for stride in (1, 2, 3, 4)
        for kernel, pads in (((1, 1), NO_PADS), ((3, 3), (0, 2, 1, 0)))
    ),
    Convolution((1, 2 * LANES, 7, 9), 2 * LANES, strides=(3, 2)),
    *(
        Convolution((1, 2 * LANES, 8, 9), 2 * LANES, kernel, (1, 2, 1, 0))
        for kernel in ((1, 5), (5, 1), (2, 3), (4, 4), (7, 7))
    ),
    *(Convolution((2, 2 * LANES, 3, 6), 2 * LANES, pads=pads) for pads in PADDINGS),
    Convolution((2, 2 * LANES, 3, 6), 2 * LANES, pads=(4, 5, 6, 7)),  # whole rows of the result see no pixel
    *(
        Convolution((1, 2 * LANES, 7, 11), 2 * LANES, (3, 3), pads, (stride, stride), dilations)
        for dilations, pads in DILATIONS
        for stride in (1, 2)
    ),
    *(
        Convolution((1, channels, 5, width), 2 * LANES, (3, 3), (far,) * 4, dilations=(far, far), residual=True)
        for width, far in ((3 * ROWS + 2, ROWS), (2 * ROWS + 1, 2 * ROWS), (ROWS + 3, 3 * ROWS))
        for channels in (3, LANES + 1)
    ),
    Convolution((1, 3, 5, 6), 2 * LANES, residual=True),
    *(
        Convolution((2, inputs, 19), 2 * LANES, (3,), pads, (2,), (1,))
        for inputs in (3, LANES + 1)
        for pads in ((1, 1), (0, 2), (2, 0))
    ),
]
"""For a forced tile of ROWS x COLUMNS."""

EPILOGUES = [
    Convolution((1, 2 * LANES, 4, 5), 2 * LANES, bias=bias, residual=residual, activation=function, arguments=arguments)
    for residual, bias, (function, arguments) in product(
        (False, True),
        (False, True),
        (("", ()), ("Relu", ()), ("Clip", (-1.0, 0.5)), ("Clip", (-1.0, inf)), ("LeakyRelu", (0.25,))),
    )
]

POINTWISE = [
    Convolution((3, LANES + 2, *shape), 3 * LANES, (1, 1), NO_PADS, residual=True)
    for shape in ((1, 1), (1, 2), (3, 1), (2, 2), (2, 3), (5, 4), (1, 9))
]

GROUPED = [
    Convolution((2, inputs, 3, 5), channels, group=group)
    for inputs, channels, group in (
        (2 * LANES, 4 * LANES, 2),  # whole blocks
        (2 * LANES, 2 * LANES, 4),  # half blocks
        (LANES + LANES // 2, 3 * LANES, 3),
        (15, 5 * (LANES // 2), 5),
        (34, 51, 17),
        (6 * (LANES + 1), 6 * (LANES - 1), 6),
        (LANES, 3 * LANES, LANES),  # three results of each channel
        (10, 4 * LANES, 2),  # more results in a group than fit a tile
        (4 * (2 * LANES + 2), 4 * (2 * LANES + 2), 4),  # neither begins nor ends with a vector
        (4 * (LANES + 4), 2 * (2 * LANES + 1), 2),
    )
]

GROUPED_WINDOWS = [
    Convolution((1, 3 * inputs, 9, 13), 3 * (LANES + 3), (3, 2), (2, 1, 0, 3), (2, 3), (1, 2), group=3)
    for inputs in (1, 2, LANES + 1, 3 * LANES)
]

FIRST_LAYERS = [
    Convolution((2, inputs, 9, 11), 3 * LANES - 1, kernel, pads, strides, dilations, activation="Relu")
    for inputs, kernel, pads, strides, dilations in (
        *((inputs, (3, 3), (1, 1, 1, 1), (1, 1), (1, 1)) for inputs in (1, 2, 3, 4)),
        *((inputs, (3, 3), (0, 2, 2, 1), (1, 1), (2, 2)) for inputs in (1, 2, 3, 4)),
        (3, (7, 5), (3, 1, 0, 3), (2, 2), (1, 1)),
        (3, (11, 11), (5, 6, 7, 8), (2, 2), (1, 1)),
        (3, (3, 3), (2, 2, 2, 2), (3, 2), (2, 2)),
    )
]
"""Few input channels: their kernels read pixels, and not vectors of channels."""

OF_MODELS = [
    Convolution((1, 2 * LANES, 1, 1), LANES),
    Convolution((1, 4 * LANES, 1, 1), 8 * LANES, (1, 1), NO_PADS),
    Convolution((1, 3, 32, 32), 64, (7, 7), (3, 3, 3, 3), (2, 2), activation="Relu"),
    Convolution((1, 64, 14, 14), 128, (1, 1), NO_PADS, residual=True, activation="Relu"),
    Convolution((1, 64, 28, 28), 96, (3, 3), (1, 1, 1, 1), (2, 2)),
    Convolution((2, 48, 7, 7), 160),
    Convolution((1, 130, 13, 13), 70, group=2),
]

CASES = tuple(dict.fromkeys((*DENSE, *EPILOGUES, *POINTWISE, *GROUPED, *GROUPED_WINDOWS, *FIRST_LAYERS, *OF_MODELS)))
