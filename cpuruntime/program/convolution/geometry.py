"""The sizes of a convolution, which its halo, its kernel and its work are derived from."""

from __future__ import annotations

from math import gcd, lcm

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Extent, Node, Size
from cpuruntime.program.convolution.panels import Channels
from cpuruntime.program.plan.lowering import pair
from cpuruntime.program.plan.storage import image_shape
from cpuruntime.records import record

DOMAIN = "cpuruntime"
MOST_NARROW = 8
FEW_CHANNELS = 4
"""Inputs of up to so many channels are read pixel by pixel."""


@record
class Geometry:
    """The sizes of a 1-D or 2-D convolution as if it were 2-D."""

    batch: Extent
    in_channels: int
    in_height: Extent
    in_width: Extent
    channels: int
    height: Extent
    width: Extent
    group: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    dilation_height: int
    dilation_width: int
    pad_top: Extent
    pad_left: Extent
    pad_right: Extent

    @classmethod
    def of(cls, node: Node) -> Geometry:
        """Those of a node of the operator Conv after the passes."""
        source, target = node.require(0).static_shape, node.outputs[0].static_shape
        pads = node.attributes["pads"]
        window = (*pair(node, "kernel_shape"), *pair(node, "strides"), *pair(node, "dilations"), *pair(node, "pads", 0))
        return cls(*image_shape(source), *image_shape(target)[1:], node.attributes["group"], *window, pads[-1])

    @property
    def right(self) -> Extent:
        """Pixels read to the right of the image; of a width that is a `Size`, as many as any width may need."""
        if isinstance(self.in_width, Size):
            return max(0, self.pad_right)
        reach = (self.width - 1) * self.stride_width + (self.kernel_width - 1) * self.dilation_width + 1
        return max(0, reach - self.pad_left - self.in_width)

    @property
    def all_channels(self) -> Channels:
        """The inputs and outputs."""
        return Channels(self.in_channels, self.channels, self.group)

    @property
    def of_group(self) -> tuple[int, int]:
        """The inputs and outputs of a group."""
        return self.in_channels // self.group, self.channels // self.group

    @property
    def blocks(self) -> tuple[int, int]:
        """The blocks of inputs and of outputs."""
        return -(-self.in_channels // LANES), -(-self.channels // LANES)

    @property
    def has_narrow_groups(self) -> bool:
        """Whether no group of outputs lies in two vectors, and those in one vector read one vector at most."""
        inputs, outputs = self.of_group
        return self.group > 1 and LANES % outputs == 0 and outputs % inputs == 0 and inputs <= MOST_NARROW

    def output_blocks(self, group: int) -> tuple[int, int]:
        """The blocks [first, last) that the outputs of a group lie in."""
        outputs = self.of_group[1]
        return group * outputs // LANES, -(-(group + 1) * outputs // LANES)

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel reads the input pixel at its own place and no other."""
        window = (self.taps, self.stride_height, self.stride_width, self.pad_top, self.pad_left, self.right)
        return window == (1, 1, 1, 0, 0, 0) and self.height == self.in_height

    @property
    def is_sparse(self) -> bool:
        """Whether every output pixel reads one pixel inside the image, and not all are read; for known sizes only."""
        if any(isinstance(size, Size) for size in (self.batch, self.height, self.width)):
            return False
        inside = (self.taps, self.pad_top, self.pad_left, self.right) == (1, 0, 0, 0)
        strides = self.stride_height, self.stride_width
        return inside and max(strides) > 1 and (self.height - 1) * self.stride_height < self.in_height

    def window_fields(self) -> dict[str, int]:
        names = ("kernel_height", "kernel_width", "stride_height", "dilation_height", "pad_top")
        return {name: getattr(self, name) for name in names}

    @property
    def taps(self) -> int:
        """Elements of a kernel in one channel."""
        return self.kernel_height * self.kernel_width

    @property
    def flops(self) -> Extent:
        return 2 * self.batch * self.channels * self.height * self.width * self.taps * self.of_group[0]

    @property
    def parts(self) -> int:
        """The parts of whole vectors, each of one or several groups, that do not mix; 0 if a vector is in two parts."""
        if self.group == 1:
            return 1
        inputs, outputs = self.of_group
        together = lcm(LANES // gcd(LANES, inputs), LANES // gcd(LANES, outputs))
        return self.group // together if self.group % together == 0 else 0
