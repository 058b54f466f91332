"""Rows of float32 that end as bytes: what kernels do with a row before they store it."""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Inline, inline, lazy
from cpuruntime.ops.functions.vector_math import ROUNDER

simd = lazy("cpuruntime.compiler.simd")
byte_lanes = lazy("cpuruntime.compiler.byte_lanes")

FIELDS = dict.fromkeys(("y_scale", "least", "most", "y_zero"), "f4")
"""Of an argument block: bytes are multiples of a scale, within limits, plus the zero point."""


@inline
def whole(value, least, most, zero):
    """Numbers limited to a few hundred, to the nearest whole numbers, ties to even, plus `zero`; NaN is `least`."""
    return simd.to_words(simd.minimum(simd.maximum(value, least), most) + ROUNDER - ROUNDER + zero)


@inline
def store_row(a, source, target, count):
    """Writes `count` floats as bytes; a whole vector of them can be read. Ties may fall to either side."""
    # Numbers are limited first; then one addition rounds them, and leaves the byte in the lowest bits.
    steps, shift = simd.broadcast(1.0 / a.y_scale), simd.broadcast(ROUNDER + a.y_zero)
    least, most = simd.broadcast(a.least * a.y_scale), simd.broadcast(a.most * a.y_scale)
    for i in range(0, count, LANES):
        first = max(0, min(i, count - LANES))
        x = simd.minimum(simd.maximum(simd.load(source + 4 * first), least), most)
        words = simd.as_words(simd.fma(x, steps, shift))
        if count < LANES:
            byte_lanes.store_first_words(target, words, count)
        else:
            byte_lanes.store_words(target + first, words)


def row_end(stored: bool) -> tuple[Inline, Inline]:
    """`place(a, thread, target)`, where a kernel writes a row of floats, and `finish(a, row, target, count)`.

    Where the row is `stored` as bytes that is a thread's part of `scratch`, else the target itself.
    """
    if stored:
        return inline(lambda a, thread, target: a.scratch + thread * a.scratch_size), store_row
    return inline(lambda a, thread, target: target), inline(lambda a, row, target, count: None)
