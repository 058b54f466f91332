"""Convolution in groups on the blocked layout by register tiles that compute the outputs of one group each.

Borders are treated as in `convolution`. Groups may begin and end anywhere in a vector of channels; a thread computes
all `part_tiles` tiles whose groups share vectors, one after the other, since each keeps the lanes of the others.

Where a vector is shared by two groups, chunks may meet in pixels that both compute: whatever the order of their stores,
the last one to a vector has the lanes of the second group, and those of the first were right since its first store.
With more groups in a vector there must be one chunk.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

# A column tile of a group: byte offset of the group's first input block in the source, of its row of `bodies`, of its
# weights, its first output block, and the lanes that belong to the group: those from `low` of the first column and
# those below `high` of the last.
GROUP_TILE = record("source bodies weights block low high")
_SOURCE, _BODIES, _WEIGHTS, _BLOCK, _LOW, _HIGH = (8 * i for i in range(6))

ARGUMENTS = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row weights bias tiles tile_count part_tiles bodies row_bodies "
    "batch in_height height width kernel_height stride_height dilation_height pad_top chunk limits"
)


@cache
@factory
def grouped_convolution(rows: int, columns: int, unroll: int, step: int) -> Kernel:
    """The kernel of a `rows` x `columns` tile; arguments are those of `convolution`, `tiles` has GROUP_TILE.

    `unroll` channels per loop body: it divides the channels of a group and LANES. `bodies` has int64, the distances
    from a group's first input block to each loop body's first channel, `row_bodies` for each kernel row, in the order
    of the weights: [kernel height][block][kernel width][channel][columns][LANES]. `step` is the byte distance of the
    source pixels of successive output pixels.
    """
    tile = made("cpuruntime.ops.tiles.grouped_tile", "make_grouped_tile", rows, columns, unroll, step)
    size, row_panel = GROUP_TILE.itemsize, unroll * columns * VECTOR_BYTES

    name = f"grouped_f32_{VECTOR_BYTES // 4}_{rows}x{columns}_u{unroll}_s{step}"

    @kernel(ARGUMENTS, name=name, tile=(rows, columns, unroll))
    def run(a, thread, threads):
        tiles_x = (a.width + rows - 1) // rows
        tiles = a.height * tiles_x
        chunks = (tiles + a.chunk - 1) // a.chunk
        parts = (a.tile_count + a.part_tiles - 1) // a.part_tiles
        items = a.batch * chunks * parts
        begin_tile, end_tile = items * thread // threads * a.part_tiles, items * (thread + 1) // threads * a.part_tiles
        for number in range(begin_tile, end_tile):
            item = number // a.part_tiles
            index = item % parts * a.part_tiles + number % a.part_tiles
            if index >= a.tile_count:
                continue
            entry = a.tiles + index * size
            image, chunk = item // parts // chunks, item // parts % chunks
            block = simd.load_i64(entry + _BLOCK)
            source = a.source + image * a.source_batch + simd.load_i64(entry + _SOURCE)
            target = a.target + image * a.target_batch + block * a.target_block
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            weights = a.weights + simd.load_i64(entry + _WEIGHTS)
            bodies = a.bodies + simd.load_i64(entry + _BODIES)
            begin, end = chunk * a.chunk, min(tiles, chunk * a.chunk + a.chunk)
            y, x = begin // tiles_x, begin % tiles_x * rows
            for _ in range(begin, end):
                left = min(x, a.width - rows)
                top = y * a.stride_height - a.pad_top
                first = taps_before(0, top, a.dilation_height, a.kernel_height)
                last = taps_before(a.in_height, top, a.dilation_height, a.kernel_height)
                tile(
                    source + top * a.source_row + left * step,
                    weights + first * a.row_bodies * row_panel,
                    bodies + first * a.row_bodies * 8,
                    (last - first) * a.row_bodies,
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
