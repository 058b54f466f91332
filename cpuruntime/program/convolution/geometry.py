"""The sizes of a convolution, which its halo, its kernel and its work are derived from."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node
from cpuruntime.program.plan.storage import Blocked, image_shape

DOMAIN = "cpuruntime"
MOST_NARROW = 8

# Source, target and residual.
Views = tuple[Blocked, Blocked, "Blocked | None"]


@dataclass(frozen=True)
class Geometry:
    """The sizes of a 1-D or 2-D convolution as if it were 2-D."""

    batch: int
    in_channels: int
    in_height: int
    in_width: int
    channels: int
    height: int
    width: int
    group: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    dilation_height: int
    dilation_width: int
    pad_top: int
    pad_left: int

    @classmethod
    def of(cls, node: Node) -> Geometry:
        """Those of a node of the operator Conv after the passes."""
        x = node.require(0)
        one_dimensional = len(x.static_shape) == 3

        def pair(name: str, single: int = 1) -> tuple[int, int]:
            values = node.attributes[name]
            return (single, values[0]) if one_dimensional else (values[0], values[1])

        return cls(
            *image_shape(x.static_shape), *image_shape(node.outputs[0].static_shape)[1:], node.attributes["group"],
            *pair("kernel_shape"), *pair("strides"), *pair("dilations"), *pair("pads", 0),
        )  # fmt: skip

    @property
    def right(self) -> int:
        """Pixels read to the right of the image."""
        reach = (self.width - 1) * self.stride_width + (self.kernel_width - 1) * self.dilation_width + 1
        return max(0, reach - self.pad_left - self.in_width)

    @property
    def has_narrow_groups(self) -> bool:
        """Whether no group of outputs lies in two vectors, and those in one vector read one vector at most."""
        inputs, outputs = self.in_channels // self.group, self.channels // self.group
        return self.group > 1 and LANES % outputs == 0 and outputs % inputs == 0 and inputs <= MOST_NARROW

    def output_blocks(self, group: int) -> tuple[int, int]:
        """The blocks [first, last) that the outputs of a group lie in."""
        outputs = self.channels // self.group
        return group * outputs // LANES, -(-(group + 1) * outputs // LANES)

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel reads the input pixel at its own place and no other."""
        kernel = (self.kernel_height, self.kernel_width, self.stride_height, self.stride_width)
        return kernel == (1, 1, 1, 1) and (self.pad_top, self.pad_left, self.right) == (0, 0, 0) and (
            self.height == self.in_height
        )

    def window_fields(self) -> dict[str, int]:
        return {
            "kernel_height": self.kernel_height,
            "kernel_width": self.kernel_width,
            "stride_height": self.stride_height,
            "dilation_height": self.dilation_height,
            "pad_top": self.pad_top,
        }

    @property
    def flops(self) -> int:
        kernel = self.kernel_height * self.kernel_width * self.in_channels // self.group
        return 2 * self.batch * self.channels * self.height * self.width * kernel

    @property
    def parts(self) -> int:
        """Into how many parts of whole vectors that do not mix the channels fall: groups, or several of them together.

        0 when a vector would belong to two parts.
        """
        if self.group == 1:
            return 1
        inputs, outputs = self.in_channels // self.group, self.channels // self.group
        together = lcm(LANES // gcd(LANES, inputs), LANES // gcd(LANES, outputs))
        return self.group // together if self.group % together == 0 else 0
