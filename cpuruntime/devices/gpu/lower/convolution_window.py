"""The sizes of a convolution's window over frames, rows and columns."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import prod

from cpuruntime.graph import Node

Pair = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """Sizes along one axis; those of a missing one."""

    source: int = 1
    target: int = 1
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        """From the first position under a window to the last one."""
        return (self.kernel - 1) * self.dilation


@dataclass(frozen=True)
class Window:
    """Sizes of a convolution over frames, rows and columns; a missing axis of rows or frames has one."""

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
    frames: Axis = Axis()

    @property
    def depth(self) -> int:
        """Terms of each sum."""
        return self.inputs // self.groups * self.frames.kernel * prod(self.kernel)

    @property
    def is_plain(self) -> bool:
        """Whether it reads each row and column of the input and no border of them."""
        return self.strides == (1, 1) and not any((*self.before, *self.after))


def axes_of(node: Node) -> list[tuple[int, ...]]:
    """The sizes of a convolution or pool along frames, rows and columns, each as an `Axis` has them."""
    of, x, y = node.attributes, node.require(0).static_shape, node.outputs[0].static_shape
    rank, pads = len(x) - 2, of["pads"]
    sizes = zip(x[2:], y[2:], of["kernel_shape"], of["strides"], of["dilations"], pads[:rank], pads[rank:])
    return [*[astuple(Axis())] * (3 - rank), *sizes]


def window_of(node: Node) -> Window:
    """The sizes of a Conv or ConvTranspose."""
    x, y = node.require(0).static_shape, node.outputs[0].static_shape
    frames, rows, columns = axes_of(node)
    return Window(x[0], x[1], y[1], node.attributes["group"], *zip(rows, columns), frames=Axis(*frames))
