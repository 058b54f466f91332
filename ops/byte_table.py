"""Functions of one byte by a table of 256 bytes."""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, lazy
from cpuruntime.ops.tiles.loops import nest_kernel

byte_lanes = lazy("cpuruntime.compiler.byte_lanes")
simd = lazy("cpuruntime.compiler.simd")


@inline
def _look_up(a, target, first, second, third, count):
    """`second` is the table."""
    if a.first5 == 1 and a.target5 == 1:
        whole = count - count % 8
        for i in range(0, whole, 8):
            byte_lanes.look_up8(first + i, second, target + i)
        for i in range(whole, count):
            simd.store_u8(target + i, simd.load_u8(second + simd.load_u8(first + i)))
        return
    for i in range(count):
        simd.store_u8(target + i * a.target5, simd.load_u8(second + simd.load_u8(first + i * a.first5)))


byte_table = nest_kernel("byte_table", _look_up)
"""target = the table `second` at the byte of `first`, on the loop nest of `loops`; the table has strides of 0."""
