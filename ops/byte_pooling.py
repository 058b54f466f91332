"""Pooling of bytes on the blocked layout; windows are clipped at the image's borders.

An average is a sum of whole numbers, then one multiplication and one rounding: the same bits on every processor.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.byte_rows import whole
from cpuruntime.ops.pooling import POOL
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")
byte_lanes = lazy("cpuruntime.compiler.byte_lanes")

# A sum of bytes less `zero` is multiplied and divided by their number, then it becomes a byte: see `whole`.
BYTE_POOL = record(*(POOL.names or ()), "zero", **dict.fromkeys(("multiplier", "least", "most", "y_zero"), "f4"))


@cache
@factory
def byte_pool(signed: bool, average: bool) -> Kernel:
    """Pooling of u8, or i8, of any window, stride, dilation and padding; the arguments are those of `pool`, and more.

    A window wholly outside of the image gives the lowest number, or an average of 0.
    """
    least = -128 if signed else 0

    @inline
    def load(address):
        return byte_lanes.load_signed(address) if signed else byte_lanes.load_words(address)

    @inline
    def joined(total, number):
        return total + number if average else simd.select(number > total, number, total)

    @inline
    def rounded(a, total, counted):
        if not average:
            return total
        # By one factor, rounded to float32.
        value = simd.times(simd.to_floats(total), simd.broadcast(a.multiplier / max(1, counted)))
        return whole(value, simd.broadcast(a.least), simd.broadcast(a.most), simd.broadcast(a.y_zero))

    @kernel(BYTE_POOL, name=f"{'average' if average else 'max'}_pool_{'i8' if signed else 'u8'}_{LANES}")
    def run(a, thread, threads):
        items = a.batch * a.blocks * a.height
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            y, block, image = item % a.height, item // a.height % a.blocks, item // a.height // a.blocks
            top = y * a.stride_height - a.pad_top
            first = taps_before(0, top, a.dilation_height, a.kernel_height)
            rows = taps_before(a.in_height, top, a.dilation_height, a.kernel_height) - first
            line = a.source + image * a.source_batch + block * a.source_block
            line += (top + first * a.dilation_height) * a.source_row
            target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
            for x in range(a.width):
                left = x * a.stride_width - a.pad_left
                begin = taps_before(0, left, a.dilation_width, a.kernel_width)
                columns = taps_before(a.in_width, left, a.dilation_width, a.kernel_width) - begin
                total = simd.words(-a.zero * rows * columns if average else least)
                row = line + (left + begin * a.dilation_width) * LANES
                for _ in range(rows):
                    place = row
                    for _ in range(columns):
                        total = joined(total, load(place))
                        place += a.dilation_width * LANES
                    row += a.dilation_height * a.source_row
                counted = a.kernel_height * a.kernel_width if a.include_pad != 0 else rows * columns
                byte_lanes.store_words(target + x * LANES, rounded(a, total, counted))

    return run
