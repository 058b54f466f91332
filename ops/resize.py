"""Resizing of images: nearest neighbours, and weighted sums of neighbouring pixels (linear, cubic).

Which source pixels a target pixel is made of depends on its row and column alone, so kernels read it from tables made
at compile time. Offsets in the tables are bytes: of rows counted from the image's first row, of pixels from the row's
first pixel.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.movement import copy_bytes

byte_lanes = lazy("cpuruntime.compiler.byte_lanes")
simd = lazy("cpuruntime.compiler.simd")

PIXELS = 4  # target pixels of a weighted sum that are made at once

NEAREST = record(
    "source source_batch source_block target target_batch target_block target_row "
    "batch blocks height width rows columns"
)

WEIGHTED = record(
    "source source_batch source_block target target_batch target_block target_row batch blocks height width "
    "rows row_weights columns column_weights scratch scratch_size"
)

PLAIN = record(
    "source source_image target images in_width height width row_taps column_taps "
    "rows row_weights columns column_weights scratch scratch_size", beyond="f4",
)  # fmt: skip


@cache
@factory
def resize_nearest(element: int) -> Kernel:
    """One source pixel for each target pixel of blocked tensors of elements of 1 or 4 bytes.

    `rows` and `columns` hold int64 offsets. A row that repeats the one before is copied from it when this thread has
    made that.
    """
    pixel = element * LANES

    @inline
    def move(source, target):
        if element == 4:
            simd.store(target, simd.load(source))
        else:
            byte_lanes.store_words(target, byte_lanes.load_words(source))

    @kernel(NEAREST, name=f"resize_nearest_{element}_{LANES}")
    def run(a, thread, threads):
        items = a.batch * a.blocks * a.height
        before = -1
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            y, block, image = item % a.height, item // a.height % a.blocks, item // a.height // a.blocks
            row = simd.load_i64(a.rows + 8 * y)
            target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
            if y > 0 and row == before:
                copy_bytes(target - a.target_row, target, a.width * pixel)
                continue
            before = row
            source = a.source + image * a.source_batch + block * a.source_block + row
            for x in range(a.width):
                move(source + simd.load_i64(a.columns + 8 * x), target + x * pixel)

    return run


@cache
@factory
def resize_weighted(taps: int) -> Kernel:
    """Each target pixel of a blocked tensor is a sum over `taps` x `taps` source pixels, 2 or 4.

    `rows` [height][taps] and `columns` [width][taps] hold int64 offsets, `row_weights` and `column_weights` the float32
    factors. `scratch` has `scratch_size` bytes for each thread: one source row, the rows' sums.
    """
    assert taps in (2, 4)

    @kernel(WEIGHTED, name=f"resize_weighted_f32_{LANES}_{taps}")
    def run(a, thread, threads):
        items = a.batch * a.blocks * a.height
        line = a.scratch + thread * a.scratch_size
        span = a.scratch_size // VECTOR_BYTES
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            y, block, image = item % a.height, item // a.height % a.blocks, item // a.height // a.blocks
            source = a.source + image * a.source_batch + block * a.source_block
            target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
            rows, weights = a.rows + y * taps * 8, a.row_weights + y * taps * 4
            first, second = source + simd.load_i64(rows), source + simd.load_i64(rows + 8)
            p, q = simd.broadcast(simd.load_f32(weights)), simd.broadcast(simd.load_f32(weights + 4))
            if taps == 2:
                for x in range(0, span * VECTOR_BYTES, VECTOR_BYTES):
                    simd.store(line + x, simd.fma(simd.load(first + x), p, simd.load(second + x) * q))
            else:
                third, fourth = source + simd.load_i64(rows + 16), source + simd.load_i64(rows + 24)
                r, s = simd.broadcast(simd.load_f32(weights + 8)), simd.broadcast(simd.load_f32(weights + 12))
                for x in range(0, span * VECTOR_BYTES, VECTOR_BYTES):
                    total = simd.fma(simd.load(first + x), p, simd.load(second + x) * q)
                    total = simd.fma(simd.load(third + x), r, simd.fma(simd.load(fourth + x), s, total))
                    simd.store(line + x, total)
            for x in range(a.width):
                columns, weights = a.columns + x * taps * 8, a.column_weights + x * taps * 4
                total = simd.load(line + simd.load_i64(columns)) * simd.broadcast(simd.load_f32(weights))
                for tap in range(1, taps):
                    value = simd.load(line + simd.load_i64(columns + 8 * tap))
                    total = simd.fma(value, simd.broadcast(simd.load_f32(weights + 4 * tap)), total)
                simd.store(target + x * VECTOR_BYTES, total)

    return run


@kernel(PLAIN)
def resize_plain(a, thread, threads):
    """Row-major images of height x width pixels, each a sum over `row_taps` x `column_taps` source pixels.

    Tables are those of `resize_weighted` with offsets of floats; images and rows follow each other without a gap. A row
    or column with a negative first offset lies beyond the image and is filled with `beyond`. `scratch` has
    `scratch_size` bytes for each thread, at least a source row of `in_width` floats.
    """
    items = a.images * a.height
    line = a.scratch + thread * a.scratch_size
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, image = item % a.height, item // a.height
        source = a.source + image * a.source_image
        target = a.target + item * a.width * 4
        rows, row_weights = a.rows + y * a.row_taps * 8, a.row_weights + y * a.row_taps * 4
        first = simd.load_i64(rows)
        if first < 0:
            for x in range(a.width):
                simd.store_f32(target + 4 * x, a.beyond)
            continue
        for x in range(0, a.in_width if a.row_taps > 1 else 0, LANES):
            lanes = min(LANES, a.in_width - x)
            total = simd.broadcast(0.0)
            for i in range(a.row_taps):
                value = simd.load_first(source + simd.load_i64(rows + 8 * i) + 4 * x, lanes)
                total = simd.fma(value, simd.broadcast(simd.load_f32(row_weights + 4 * i)), total)
            simd.store_first(line + 4 * x, total, lanes)
        _resize_row(a, line if a.row_taps > 1 else source + first, target)


@inline
def _resize_row(a, line, target):
    """The pixels of a row whose sums over rows are at `line`."""
    taps, columns, weights = a.column_taps, a.columns, a.column_weights
    for x in range(a.width):
        column = simd.load_i64(columns)
        if column < 0:
            simd.store_f32(target + 4 * x, a.beyond)
        elif taps == 1:
            simd.store_f32(target + 4 * x, simd.load_f32(line + column))
        else:
            total = simd.load_f32(line + column) * simd.load_f32(weights)
            other = simd.load_f32(line + simd.load_i64(columns + 8)) * simd.load_f32(weights + 4)
            for tap in range(2, taps - 1, 2):
                value = simd.load_f32(line + simd.load_i64(columns + 8 * tap))
                total += value * simd.load_f32(weights + 4 * tap)
                value = simd.load_f32(line + simd.load_i64(columns + 8 * tap + 8))
                other += value * simd.load_f32(weights + 4 * tap + 4)
            simd.store_f32(target + 4 * x, total + other)
        columns += 8 * taps
        weights += 4 * taps
