"""Layouts of values: which are blocked, how wide their halos are, and which are written straight into another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Type, Value

BLOCKED = (Type.f32, Type.u8, Type.i8)
"""The element types of blocked values."""


@dataclass
class LayoutPlan:
    """The layouts of a graph's values; those not mentioned are plain.

    `slices` maps a value to the one it is written into and its first channel there: a concatenation, or its staging
    when the parts do not fall on whole blocks. A staging holds the parts one after the other, each in whole blocks.
    `gathers` maps a value to the one whose channels it picks, and which. Those of `passed` are in no memory: they are
    only picked from, and what picks from them reads what they were picked from.
    """

    blocked: set[Value] = field(default_factory=set)
    halos: dict[Value, tuple[int, int]] = field(default_factory=dict)
    slices: dict[Value, tuple[Value, int]] = field(default_factory=dict)
    stagings: dict[Value, Value] = field(default_factory=dict)
    gathers: dict[Value, tuple[Value, Sequence[int]]] = field(default_factory=dict)
    passed: set[Value] = field(default_factory=set)

    def root(self, value: Value) -> tuple[Value, int]:
        """The value whose storage holds `value`, and the first channel of `value` in it."""
        channel = 0
        while value in self.slices:
            value, offset = self.slices[value]
            channel += offset
        return value, channel

    def gathered(self, value: Value) -> tuple[Value, Sequence[int]]:
        """The value in memory whose channels `value` picks, and which: that of the first gather in a row of them."""
        source, picks = self.gathers[value]
        while source in self.gathers:
            source, earlier = self.gathers[source]
            picks = [earlier[channel] for channel in picks]
        return source, picks


def is_image(value: Value) -> bool:
    """Whether the value can be blocked: float32 or bytes, [N, C, W] or [N, C, H, W]."""
    return value.element_type in BLOCKED and value.shape is not None and len(value.shape) in (3, 4)


def fits_blocked(value: Value, output: Value) -> bool:
    """Whether `value` can be an operand of a blocked result: a scalar, or an image of the same rank."""
    if value.element_type not in BLOCKED or value.shape is None:
        return False
    scalar = all(extent == 1 for extent in value.shape)
    return scalar or len(value.shape) == len(output.static_shape)


def whole_blocks(value: Value) -> int:
    """The channels of an image, counting the unused lanes of the last block."""
    return -(-value.static_shape[1] // LANES) * LANES
