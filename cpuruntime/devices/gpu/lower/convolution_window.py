"""The sizes of a convolution's window over rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cpuruntime.graph import Node

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Sizes of a convolution over rows and columns; a missing axis of rows has one."""

    batch: int
    inputs: int
    outputs: int
    groups: int
    source: Pair
    target: Pair
    kernel: Pair
    strides: Pair
    dilations: Pair
    before: Pair
    after: Pair

    @property
    def depth(self) -> int:
        """Terms of each sum."""
        return self.inputs // self.groups * prod(self.kernel)

    @property
    def is_plain(self) -> bool:
        """Whether it reads each position of the input and no border."""
        return self.strides == (1, 1) and not any((*self.before, *self.after))


def pair(numbers: list[int], missing: int) -> Pair:
    """The numbers for rows and columns."""
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (missing, numbers[0])


def window_of(node: Node) -> Window:
    """The sizes of a Conv or ConvTranspose."""
    of, x, y = node.attributes, node.require(0).static_shape, node.outputs[0].static_shape
    rank = len(x) - 2
    return Window(
        x[0], x[1], y[1], of["group"], pair(list(x[2:]), 1), pair(list(y[2:]), 1), pair(of["kernel_shape"], 1),
        pair(of["strides"], 1), pair(of["dilations"], 1), pair(of["pads"][:rank], 0), pair(of["pads"][rank:], 0),
    )  # fmt: skip
