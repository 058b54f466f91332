"""Max and average pooling, windowed and global, on the blocked layout.

Windows are clipped at the image's borders, so the source needs no halo. The maximum of a window with a NaN is NaN; a
window wholly outside of the image gives -inf or an average of 0.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

PIXELS = 4  # output pixels per tile
START = {True: 0.0, False: float("-inf")}  # by whether it is an average

POOL = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "batch blocks in_height in_width height width kernel_height kernel_width stride_height stride_width "
    "dilation_height dilation_width pad_top pad_left pad_bottom pad_right include_pad"
)

GLOBAL_POOL = record(
    "source source_batch source_block source_row target target_batch target_block batch blocks height width"
)


def _combine(average: bool) -> Inline:
    if average:
        return inline(lambda total, values: total + values)
    return inline(lambda total, values: simd.select(values != values, values, simd.maximum(values, total)))


def _slide(average: bool) -> Inline:
    combine, start = _combine(average), START[average]

    @inline
    def slide(a, source, target, rows, count):
        """One output row of windows 3 wide, 1..3 rows high, stride 1: every column is reduced once."""
        p = q = simd.broadcast(start)
        counted, scale = 0, 1.0
        row_step = a.dilation_height * a.source_row
        for left in range(-a.pad_left - 2, a.width - a.pad_left):
            r = simd.broadcast(start)
            if 0 <= left + 2 < a.in_width:
                address = source + (left + 2) * VECTOR_BYTES
                r = combine(r, simd.load(address))
                if rows > 1:
                    r = combine(r, simd.load(address + row_step))
                if rows > 2:
                    r = combine(r, simd.load(address + 2 * row_step))
            if left >= -a.pad_left:
                total = combine(combine(p, q), r)
                if average:
                    columns = min(3, a.in_width - left) - max(0, -left)
                    if a.include_pad != 0:
                        columns = min(3, a.in_width + a.pad_right - left)
                    if columns != counted:
                        counted, scale = columns, 1.0 / max(1, count * columns)
                    total = total * scale
                simd.store(target, total)
                target += VECTOR_BYTES
            p, q = q, r

    return slide


def _window(average: bool) -> Inline:
    combine, start = _combine(average), START[average]

    @inline
    def reduce_window(a, source, target, left, rows, count):
        """One window, clipped at the left and right."""
        total = simd.broadcast(start)
        first = taps_before(0, left, a.dilation_width, a.kernel_width)
        last = taps_before(a.in_width, left, a.dilation_width, a.kernel_width)
        source += (left + first * a.dilation_width) * VECTOR_BYTES
        for _ in range(rows):
            address = source
            for _ in range(last - first):
                total = combine(total, simd.load(address))
                address += a.dilation_width * VECTOR_BYTES
            source += a.dilation_height * a.source_row
        if average:
            counted = last - first
            if a.include_pad != 0:
                counted = taps_before(a.in_width + a.pad_right, left, a.dilation_width, a.kernel_width)
            total = total * (1.0 / max(1, count * counted))
        simd.store(target, total)

    return reduce_window


def _quad(average: bool) -> Inline:
    combine, start = _combine(average), START[average]

    @inline
    def quad(source, step, rows, row_step, count, count_step):
        """Four reductions of `rows` x `count` vectors, from addresses `step` bytes apart."""
        p = q = r = s = simd.broadcast(start)
        for _ in range(rows):
            address = source
            for _ in range(count):
                p, q = combine(p, simd.load(address)), combine(q, simd.load(address + step))
                r, s = combine(r, simd.load(address + 2 * step)), combine(s, simd.load(address + 3 * step))
                address += count_step
            source += row_step
        return p, q, r, s

    return quad


@cache
@factory
def pool(average: bool) -> Kernel:
    """Max pooling, or average pooling when `average`, of any window, stride, dilation and padding.

    in_height x in_width is the source's size, height x width the target's. An average counts the window's elements
    inside the image; with include_pad = 1 also those in the padding (pad_top .. pad_right), never those beyond it.
    pad_bottom, pad_right and include_pad mean nothing to a maximum.
    """
    slide, reduce_window, quad = _slide(average), _window(average), _quad(average)

    @kernel(POOL, name=f"{'average' if average else 'max'}_pool_f32_{LANES}")
    def run(a, thread, threads):
        items = a.batch * a.blocks * a.height
        begin = (a.pad_left + a.stride_width - 1) // a.stride_width
        room = a.in_width + a.pad_left - (a.kernel_width - 1) * a.dilation_width - 1
        end = min(a.width, room // a.stride_width + 1 if room >= 0 else 0)
        sliding = a.kernel_width == 3 and a.kernel_height <= 3 and a.stride_width == 1 and a.dilation_width == 1
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            y, block, image = item % a.height, item // a.height % a.blocks, item // a.height // a.blocks
            top = y * a.stride_height - a.pad_top
            first = taps_before(0, top, a.dilation_height, a.kernel_height)
            rows = taps_before(a.in_height, top, a.dilation_height, a.kernel_height) - first
            count = rows
            if a.include_pad != 0:
                count = taps_before(a.in_height + a.pad_bottom, top, a.dilation_height, a.kernel_height)
            source = a.source + image * a.source_batch + block * a.source_block
            source += (top + first * a.dilation_height) * a.source_row
            target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
            if sliding and rows > 0:
                slide(a, source, target, rows, count)
                continue
            scale = 1.0 / max(1, count * a.kernel_width)
            x = 0
            while x < a.width:
                if begin <= x < end and end - begin >= PIXELS:
                    x = min(x, end - PIXELS)
                    left = x * a.stride_width - a.pad_left
                    p, q, r, s = quad(
                        source + left * VECTOR_BYTES, a.stride_width * VECTOR_BYTES, rows,
                        a.dilation_height * a.source_row, a.kernel_width, a.dilation_width * VECTOR_BYTES,
                    )  # fmt: skip
                    if average:
                        p, q, r, s = p * scale, q * scale, r * scale, s * scale
                    place = target + x * VECTOR_BYTES
                    simd.store(place, p)
                    simd.store(place + VECTOR_BYTES, q)
                    simd.store(place + 2 * VECTOR_BYTES, r)
                    simd.store(place + 3 * VECTOR_BYTES, s)
                    x += PIXELS
                else:
                    left = x * a.stride_width - a.pad_left
                    reduce_window(a, source, target + x * VECTOR_BYTES, left, rows, count)
                    x += 1

    return run


@cache
@factory
def global_pool(average: bool) -> Kernel:
    """The largest element of each channel, or the average when `average`; the target's images are single pixels."""
    combine, quad = _combine(average), _quad(average)

    @kernel(GLOBAL_POOL, name=f"global_{'average' if average else 'max'}_pool_f32_{LANES}")
    def run(a, thread, threads):
        items = a.batch * a.blocks
        rows, pixels = a.height, a.width
        if a.source_row == a.width * VECTOR_BYTES:
            rows, pixels = 1, a.height * a.width
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            source = a.source + item // a.blocks * a.source_batch + item % a.blocks * a.source_block
            p, q, r, s = quad(source, VECTOR_BYTES, rows, a.source_row, pixels // 4, 4 * VECTOR_BYTES)
            for _ in range(rows):
                for x in range(pixels - pixels % 4, pixels):
                    p = combine(p, simd.load(source + x * VECTOR_BYTES))
                source += a.source_row
            total = combine(combine(p, q), combine(r, s))
            if average:
                total = total * (1.0 / (a.height * a.width))
            target = a.target + item // a.blocks * a.target_batch + item % a.blocks * a.target_block
            simd.store(target, total)

    return run
