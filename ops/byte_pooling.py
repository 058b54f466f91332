"""Max pooling of bytes on the blocked layout; windows are clipped at the image's borders."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy
from cpuruntime.ops.pooling import POOL
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")
byte_lanes = lazy("cpuruntime.compiler.byte_lanes")


@cache
@factory
def byte_max_pool(signed: bool) -> Kernel:
    """Max pooling of u8, or i8, of any window, stride, dilation and padding; the arguments are those of `pool`.

    A window wholly outside of the image gives the lowest number.
    """
    least = -128 if signed else 0

    @inline
    def load(address):
        return byte_lanes.load_signed(address) if signed else byte_lanes.load_words(address)

    @kernel(POOL, name=f"max_pool_{'i8' if signed else 'u8'}_{LANES}")
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
                end = taps_before(a.in_width, left, a.dilation_width, a.kernel_width)
                total, row = simd.words(least), line + (left + begin * a.dilation_width) * LANES
                for _ in range(rows):
                    place = row
                    for _ in range(end - begin):
                        number = load(place)
                        total = simd.select(number > total, number, total)
                        place += a.dilation_width * LANES
                    row += a.dilation_height * a.source_row
                byte_lanes.store_words(target + x * LANES, total)

    return run
