"""Matrix product on row-major matrices by register tiles, and the packing of its right side.

target[M, N] = source[M, K] @ weights[K, N] + bias + residual, for each of `batch` matrices. The right side is packed in
column tiles of `columns` vectors: [tile][K][columns][LANES]; the last tile is moved left until it ends with the last
vector of columns. Rows beyond the last full row tile are computed by a tile that is moved up in the same way, or the
last tiles are lower ones.

What two tiles compute both is written twice with the same bits.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.tiles.finish import make_buffer, make_finish
from cpuruntime.ops.tiles.tile_shapes import low_rows, pairs_columns

simd = lazy("cpuruntime.compiler.simd")

UNROLL = 4

ARGUMENTS = record(
    "source source_batch source_row target target_batch target_row residual residual_batch residual_row "
    "weights weights_batch bias batch rows inner columns chunk limits", alpha="f4", beta="f4",
)  # fmt: skip


def make_part(rows: int, columns: int, activation: str, panels: int = 1) -> Inline:
    """`part(a, scratch, image, row, block, weights, tail, ahead, fetching)` computes the tile at `row` and `block`.

    Its weights are those of as many column tiles as there are `panels`. If `fetching`, each of its loop bodies asks for
    a few lines from `ahead` on.
    """
    activated = activation != ""
    panel_row = columns // panels * VECTOR_BYTES
    finish = make_finish(rows, columns, activation)
    tile = made("cpuruntime.ops.tiles.register_tile", "make_tile", rows, columns, UNROLL, None, True, UNROLL, panels)

    @inline
    def part(a, scratch, image, row, block, weights, tail, ahead, fetching):
        target = a.target + image * a.target_batch + row * a.target_row + block * VECTOR_BYTES
        residual = a.residual + image * a.residual_batch + row * a.residual_row + block * VECTOR_BYTES
        tile(
            a.source + image * a.source_batch + row * a.source_row,
            a.source_row,
            weights,
            a.inner % UNROLL,
            (
                1, 1, 1, a.inner // UNROLL, 0, 0, 0, a.inner * panel_row, 0,
                ahead if fetching else weights, UNROLL * LINE if fetching else 0,
            ),
            (
                scratch if activated else target,
                VECTOR_BYTES, columns * VECTOR_BYTES if activated else a.target_row,
                residual if a.residual != 0 else 0, VECTOR_BYTES, a.residual_row,
                a.bias + block * VECTOR_BYTES, a.limits, tail,
            ),
        )  # fmt: skip
        finish(a, scratch, target, a.target_row, VECTOR_BYTES, tail)

    return part


@cache
@factory
def matmul(rows: int, columns: int, activation: str = "") -> Kernel:
    """The matrix product of a `rows` x `columns` tile; needs M >= rows and N > (columns - 1) * LANES.

    `chunk` is the number of row tiles worked on before the next column tile is taken. The last row tiles are lower
    ones, see `low_rows`, where less is computed twice so. Two column tiles are taken at a time where multiply-adds of
    one wait for each other. `activation` is "" or one of `ACTIVATIONS`, with its parameters in `alpha` and `beta`; it
    comes after the limits.
    """
    low = low_rows(rows, columns)
    saved = rows - low
    paired = pairs_columns(rows, columns)
    buffer, part = make_buffer(rows, (1 + paired) * columns, activation), make_part(rows, columns, activation)
    low_part = make_part(low, columns, activation) if saved else part
    pair = make_part(rows, 2 * columns, activation, 2) if paired else part
    name = f"matmul_f32_{LANES}_{rows}x{columns}" + (f"_{activation}" if activation else "")
    panel_row = columns * VECTOR_BYTES

    @kernel(ARGUMENTS, name=name, tile=(rows, columns))
    def run(a, thread, threads):
        scratch = buffer()
        blocks = (a.columns + LANES - 1) // LANES
        column_tiles = (blocks + columns - 1) // columns
        row_tiles = (a.rows + rows - 1) // rows
        high_tiles = row_tiles
        if saved:
            high_tiles -= min(row_tiles, (row_tiles * rows - a.rows) // saved)
        chunks = (row_tiles + a.chunk - 1) // a.chunk
        items = a.batch * chunks * column_tiles
        item, last = items * thread // threads, items * (thread + 1) // threads
        while item < last:
            column_tile, rest = item % column_tiles, item // column_tiles
            chunk, image = rest % chunks, rest // chunks
            block = min(column_tile * columns, blocks - columns)
            taken = 1
            if paired and item + 1 < last and (column_tile + 2) * columns <= blocks:
                taken = 2
            item += taken
            tail = min(LANES, a.columns - (block + taken * columns - 1) * LANES)
            weights = a.weights + image * a.weights_batch + column_tile * a.inner * columns * VECTOR_BYTES
            begin, end = chunk * a.chunk, min(row_tiles, chunk * a.chunk + a.chunk)
            # The next column tile's weights: each of the first tiles asks for a part of them. With a single tile the
            # weights are read as fast as they arrive anyway.
            ahead, fetched = weights + taken * a.inner * panel_row, a.inner // UNROLL * UNROLL * LINE
            for t in range(begin, end):
                at = t - begin
                fetching = at * LINE < panel_row and end - begin > 1
                if paired and taken == 2:
                    row = min(t * rows, a.rows - rows)
                    pair(a, scratch, image, row, block, weights, tail, ahead + at * fetched, fetching)
                elif t < high_tiles:
                    row = min(t * rows, a.rows - rows)
                    part(a, scratch, image, row, block, weights, tail, ahead + at * fetched, fetching)
                elif saved:
                    row = min(t * rows - (t - high_tiles) * saved, a.rows - low)
                    low_part(a, scratch, image, row, block, weights, tail, ahead + at * fetched, fetching)

    return run


PACK_ARGUMENTS = record(
    "source source_batch source_row source_column target target_batch batch inner columns tile_columns"
)


@kernel(PACK_ARGUMENTS)
def pack_columns(a, thread, threads):
    """Packs a right side [batch][K][N] with any row and column strides for `matmul`; lanes beyond N become zero."""
    blocks = (a.columns + LANES - 1) // LANES
    tiles = (blocks + a.tile_columns - 1) // a.tile_columns
    items = a.batch * tiles
    row, column, lanes = a.source_row, a.source_column, a.tile_columns * LANES
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        image, t = item // tiles, item % tiles
        first = min(t * a.tile_columns, blocks - a.tile_columns) * LANES
        source = a.source + image * a.source_batch + first * column
        target = a.target + image * a.target_batch + t * a.inner * a.tile_columns * VECTOR_BYTES
        present = min(a.columns - first, lanes)
        for k in range(a.inner):
            at = source + k * row
            for i in range(present):
                simd.store_f32(target + 4 * i, simd.load_f32(at + i * column))
            for i in range(present, lanes):
                simd.store_f32(target + 4 * i, 0.0)
            target += 4 * lanes


def packed_bytes(inner: int, columns: int, tile_columns: int) -> int:
    """Size of one packed right side [inner, columns]."""
    blocks = -(-columns // LANES)
    return -(-blocks // tile_columns) * inner * tile_columns * VECTOR_BYTES
