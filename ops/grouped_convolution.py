"""Convolution in groups on the blocked layout by register tiles that compute the outputs of one group each.

Work is cut and borders are treated as in `convolution`. Groups may begin and end anywhere in a vector of channels.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

# A column tile of a group: byte offset of the group's first input block in the source, its inputs begin .. end counted
# from that block's first lane, byte offset of its weights, its first output block, and the lanes that belong to the
# group: those from `low` of the first column and those below `high` of the last.
GROUP_TILE = record("source begin end weights block low high")
_SOURCE, _BEGIN, _END, _WEIGHTS, _BLOCK, _LOW, _HIGH = (8 * i for i in range(7))

ARGUMENTS = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row weights bias tiles tile_count batch in_height height width "
    "kernel_height kernel_width stride_height dilation_height source_column pad_top chunk limits"
)


@cache
@factory
def grouped_convolution(rows: int, columns: int, unroll: int, step: int) -> Kernel:
    """The kernel of a `rows` x `columns` tile; arguments are those of `convolution`, `tiles` has GROUP_TILE.

    `unroll` channels per loop body: it divides the channels of a group and LANES. `step` is the byte distance of the
    source pixels of successive output pixels.
    """
    tile = made("cpuruntime.ops.tiles.grouped_tile", "make_grouped_tile", rows, columns, unroll, step)
    size = GROUP_TILE.itemsize

    name = f"grouped_f32_{VECTOR_BYTES // 4}_{rows}x{columns}_u{unroll}_s{step}"

    @kernel(ARGUMENTS, name=name, tile=(rows, columns, unroll))
    def run(a, thread, threads):
        tiles_x = (a.width + rows - 1) // rows
        tiles = a.height * tiles_x
        chunks = (tiles + a.chunk - 1) // a.chunk
        items = a.batch * chunks * a.tile_count
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            entry = a.tiles + item % a.tile_count * size
            image, chunk = item // a.tile_count // chunks, item // a.tile_count % chunks
            block = simd.load_i64(entry + _BLOCK)
            source = a.source + image * a.source_batch + simd.load_i64(entry + _SOURCE)
            target = a.target + image * a.target_batch + block * a.target_block
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            weights = a.weights + simd.load_i64(entry + _WEIGHTS)
            begin, end = chunk * a.chunk, min(tiles, chunk * a.chunk + a.chunk)
            y, x = begin // tiles_x, begin % tiles_x * rows
            for _ in range(begin, end):
                left = min(x, a.width - rows)
                top = y * a.stride_height - a.pad_top
                first = taps_before(0, top, a.dilation_height, a.kernel_height)
                last = taps_before(a.in_height, top, a.dilation_height, a.kernel_height)
                tile(
                    source + (top + first * a.dilation_height) * a.source_row + left * step,
                    weights,
                    (
                        simd.load_i64(entry + _BEGIN), simd.load_i64(entry + _END), first, last, a.kernel_height,
                        a.kernel_width, a.source_block, a.dilation_height * a.source_row, a.source_column,
                    ),
                    simd.load_i64(entry + _LOW),
                    (
                        target + y * a.target_row + left * VECTOR_BYTES, a.target_block, VECTOR_BYTES,
                        residual + y * a.residual_row + left * VECTOR_BYTES if a.residual != 0 else 0,
                        a.residual_block, VECTOR_BYTES,
                        a.bias + block * VECTOR_BYTES, a.limits, simd.load_i64(entry + _HIGH),
                    ),
                )  # fmt: skip
                x += rows
                if x >= a.width:
                    x, y = 0, y + 1

    return run
