"""Max and average pooling, windowed and global, on the blocked layout.

Windows are clipped at the image's borders, so the source needs no halo. A NaN loses against any number in a maximum (a
window of NaNs alone gives -inf), as in ONNX's reference; a window wholly outside of the image gives -inf or an average
of 0.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, inline, kernel, lazy, record
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

PIXELS = 4  # output pixels per tile
START = {True: 0.0, False: float("-inf")}  # by whether it is an average

POOL = record(
    source="i8", source_batch="i8", source_block="i8", source_row="i8",
    target="i8", target_batch="i8", target_block="i8", target_row="i8",
    batch="i8", blocks="i8", in_height="i8", in_width="i8", height="i8", width="i8",
    kernel_height="i8", kernel_width="i8", stride_height="i8", stride_width="i8",
    dilation_height="i8", dilation_width="i8",
    pad_top="i8", pad_left="i8", pad_bottom="i8", pad_right="i8", include_pad="i8",
)  # fmt: skip

GLOBAL_POOL = record(
    source="i8", source_batch="i8", source_block="i8", source_row="i8",
    target="i8", target_batch="i8", target_block="i8",
    batch="i8", blocks="i8", height="i8", width="i8",
)  # fmt: skip


def _slide(average: bool) -> Inline:
    start = START[average]

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
                values = simd.load(address)
                r = values if average else simd.maximum(values, r)
                if rows > 1:
                    values = simd.load(address + row_step)
                    r = r + values if average else simd.maximum(values, r)
                if rows > 2:
                    values = simd.load(address + 2 * row_step)
                    r = r + values if average else simd.maximum(values, r)
            if left >= -a.pad_left:
                total = p + q + r if average else simd.maximum(r, simd.maximum(q, p))
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
    start = START[average]

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
                values = simd.load(address)
                total = total + values if average else simd.maximum(values, total)
                address += a.dilation_width * VECTOR_BYTES
            source += a.dilation_height * a.source_row
        if average:
            counted = last - first
            if a.include_pad != 0:
                counted = taps_before(a.in_width + a.pad_right, left, a.dilation_width, a.kernel_width)
            total = total * (1.0 / max(1, count * counted))
        simd.store(target, total)

    return reduce_window


def _windows(average: bool) -> Inline:
    start = START[average]

    @inline
    def reduce_windows(a, source, target, rows, scale):
        """PIXELS windows that lie inside the image from left to right."""
        p = q = r = s = simd.broadcast(start)
        step = a.stride_width * VECTOR_BYTES
        for _ in range(rows):
            address = source
            for _ in range(a.kernel_width):
                u, v = simd.load(address), simd.load(address + step)
                w, x = simd.load(address + 2 * step), simd.load(address + 3 * step)
                p = p + u if average else simd.maximum(u, p)
                q = q + v if average else simd.maximum(v, q)
                r = r + w if average else simd.maximum(w, r)
                s = s + x if average else simd.maximum(x, s)
                address += a.dilation_width * VECTOR_BYTES
            source += a.dilation_height * a.source_row
        simd.store(target, p * scale if average else p)
        simd.store(target + VECTOR_BYTES, q * scale if average else q)
        simd.store(target + 2 * VECTOR_BYTES, r * scale if average else r)
        simd.store(target + 3 * VECTOR_BYTES, s * scale if average else s)

    return reduce_windows


@cache
def pool(average: bool) -> Kernel:
    """Max pooling, or average pooling when `average`, of any window, stride, dilation and padding.

    in_height x in_width is the source's size, height x width the target's. An average counts the window's elements
    inside the image; with include_pad = 1 also those in the padding (pad_top .. pad_right), never those beyond it.
    pad_bottom, pad_right and include_pad mean nothing to a maximum.
    """
    slide, reduce_window, reduce_windows = _slide(average), _window(average), _windows(average)

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
                    reduce_windows(a, source + left * VECTOR_BYTES, target + x * VECTOR_BYTES, rows, scale)
                    x += PIXELS
                else:
                    left = x * a.stride_width - a.pad_left
                    reduce_window(a, source, target + x * VECTOR_BYTES, left, rows, count)
                    x += 1

    return run


@cache
def global_pool(average: bool) -> Kernel:
    """The largest element of each channel, or the average when `average`; the target's images are single pixels."""
    start = START[average]

    @kernel(GLOBAL_POOL, name=f"global_{'average' if average else 'max'}_pool_f32_{LANES}")
    def run(a, thread, threads):
        items = a.batch * a.blocks
        rows, pixels = a.height, a.width
        if a.source_row == a.width * VECTOR_BYTES:
            rows, pixels = 1, a.height * a.width
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            source = a.source + item // a.blocks * a.source_batch + item % a.blocks * a.source_block
            p = q = r = s = simd.broadcast(start)
            for _ in range(rows):
                address = source
                for _ in range(pixels // 4):
                    u, v = simd.load(address), simd.load(address + VECTOR_BYTES)
                    w, x = simd.load(address + 2 * VECTOR_BYTES), simd.load(address + 3 * VECTOR_BYTES)
                    p = p + u if average else simd.maximum(u, p)
                    q = q + v if average else simd.maximum(v, q)
                    r = r + w if average else simd.maximum(w, r)
                    s = s + x if average else simd.maximum(x, s)
                    address += 4 * VECTOR_BYTES
                for _ in range(pixels % 4):
                    u = simd.load(address)
                    p = p + u if average else simd.maximum(u, p)
                    address += VECTOR_BYTES
                source += a.source_row
            if average:
                total = (p + q + (r + s)) * (1.0 / (a.height * a.width))
            else:
                total = simd.maximum(simd.maximum(s, r), simd.maximum(q, p))
            target = a.target + item // a.blocks * a.target_batch + item % a.blocks * a.target_block
            simd.store(target, total)

    return run
