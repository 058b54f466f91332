"""Convolution on the blocked layout by register tiles: any kernel size, stride, dilation and number of groups.

The work is a grid of column tiles (see `COLUMN_TILE`) by chunks of pixel tiles. A pixel tile is `rows` successive
output pixels of one output row; the last ones of a row are lower where less is computed twice so, see `low_rows`, and
the last one is moved left until it ends with the row, so some pixels are computed twice, alike. Above and below the
image kernel rows are skipped, as are kernel columns that a whole tile reads beside it; to its left and right the source
must have a halo of zeros as wide as the padding.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.tiles.finish import make_buffer, make_finish
from cpuruntime.ops.tiles.tile_shapes import UNROLL, low_rows
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

# One row per column tile of the output: byte offset of its first input block in the source, number of input blocks,
# byte offset of its weights, its first output block. Groups differ in the first three only.
COLUMN_TILE = record("source blocks weights block")
_SOURCE, _BLOCKS, _WEIGHTS, _BLOCK = (8 * i for i in range(4))
_TILE_BYTES = COLUMN_TILE.itemsize

ARGUMENTS = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row weights bias column_tiles column_tile_count "
    "batch in_height height width kernel_height kernel_width stride_height source_step "
    "dilation_height source_column pad_top image_left image_width steps left_out chunk limits", alpha="f4", beta="f4",
)  # fmt: skip


def _make_part(rows: int, columns: int, unroll: int, step: int, activation: str) -> Inline:
    """`part(...)` computes the tile whose first pixel is `left` in output row `y`, for an image and a column tile.

    `source`, `target` and `residual` are where the image begins for the column tile, `block` is its first output block.
    Each loop body asks for what is `ahead`, then moves it by `ahead_step`.
    """
    # One line a loop body spreads a panel over the first tiles: measured, no slower than in a burst.
    lines = 1 if unroll == UNROLL else 0
    activated = activation != ""
    finish = make_finish(rows, columns, activation)
    tile = made("cpuruntime.ops.tiles.register_tile", "make_tile", rows, columns, unroll, step, False, lines)

    @inline
    def part(a, scratch, source, target, residual, weights, block, blocks, y, left, ahead, ahead_step):
        weight_row = a.kernel_width * a.steps * unroll * columns * VECTOR_BYTES
        top = y * a.stride_height - a.pad_top
        first = taps_before(0, top, a.dilation_height, a.kernel_height)
        last = taps_before(a.in_height, top, a.dilation_height, a.kernel_height)
        begin, end = 0, a.kernel_width
        if a.kernel_width > 1:
            at = left * step - a.image_left
            begin = taps_before(0, at + (rows - 1) * step, a.source_column, a.kernel_width)
            end = taps_before(a.image_width, at, a.source_column, a.kernel_width)
        place = target + y * a.target_row + left * VECTOR_BYTES
        tile(
            source + (top + first * a.dilation_height) * a.source_row + left * step + begin * a.source_column,
            0,
            weights + first * weight_row + begin * (a.steps * unroll * columns * VECTOR_BYTES),
            a.left_out,
            (
                blocks, last - first, end - begin, a.steps,
                a.source_block, a.dilation_height * a.source_row, a.source_column,
                a.kernel_height * weight_row, weight_row, ahead, ahead_step,
            ),
            (
                scratch if activated else place, VECTOR_BYTES if activated else a.target_block,
                columns * VECTOR_BYTES if activated else VECTOR_BYTES,
                residual + y * a.residual_row + left * VECTOR_BYTES if a.residual != 0 else 0,
                a.residual_block, VECTOR_BYTES,
                a.bias + block * VECTOR_BYTES, a.limits, LANES,
            ),
        )  # fmt: skip
        finish(a, scratch, place, VECTOR_BYTES, a.target_block, LANES)

    return part


@cache
@factory
def convolution(rows: int, columns: int, unroll: int, step: int, activation: str = "") -> Kernel:
    """The convolution kernel of a `rows` x `columns` tile.

    `unroll` channels per loop body: a divisor of LANES for blocked sources, the number of channels for interleaved
    ones (pixels of 1 to 4 floats). `step` is the byte distance of the source pixels of successive output pixels,
    `image_left` that of the image's first pixel from the source, `image_width` counts the bytes of a row of pixels.
    Arguments: `steps` loop bodies per kernel column, `left_out` fewer in the last block, `chunk` pixel tiles per chunk;
    source points at the pixel of the first output pixel's first kernel column, in image row 0 (inside the halo when the
    left padding is not zero). `activation` is "" or one of `ACTIVATIONS`, with its parameters in `alpha` and `beta`; it
    comes after the limits.
    """
    low = low_rows(rows, columns)
    saved = rows - low
    lines = 1 if unroll == UNROLL else 0
    buffer, part = make_buffer(rows, columns, activation), _make_part(rows, columns, unroll, step, activation)
    low_part = _make_part(low, columns, unroll, step, activation) if saved else part
    name = f"convolution_f32_{LANES}_{rows}x{columns}_u{unroll}_s{step}" + (f"_{activation}" if activation else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, columns, unroll))
    def run(a, thread, threads):
        scratch = buffer()
        tiles_x = (a.width + rows - 1) // rows
        high_x = tiles_x
        if saved:
            high_x -= min(tiles_x, (tiles_x * rows - a.width) // saved)
        tiles = a.height * tiles_x
        chunks = (tiles + a.chunk - 1) // a.chunk
        items = a.batch * chunks * a.column_tile_count
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            column_tile = a.column_tiles + item % a.column_tile_count * _TILE_BYTES
            image, chunk = item // a.column_tile_count // chunks, item // a.column_tile_count % chunks
            block = simd.load_i64(column_tile + _BLOCK)
            blocks = simd.load_i64(column_tile + _BLOCKS)
            source = a.source + image * a.source_batch + simd.load_i64(column_tile + _SOURCE)
            target = a.target + image * a.target_batch + block * a.target_block
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            weights = a.weights + simd.load_i64(column_tile + _WEIGHTS)
            # The next column tile's weights: each of the first tiles asks for a part of them.
            taps, bodies = a.kernel_height * a.kernel_width, blocks * a.steps
            panel = bodies * taps * unroll * columns * VECTOR_BYTES
            fetched = (bodies - a.left_out) * taps * lines * LINE
            begin, end = chunk * a.chunk, min(tiles, chunk * a.chunk + a.chunk)
            y, x = begin // tiles_x, begin % tiles_x
            for t in range(begin, end):
                fetching = (t - begin) * fetched < panel
                ahead = weights + panel + (t - begin) * fetched if fetching else weights
                ahead_step = lines * LINE if fetching else 0
                if x < high_x:
                    left = min(x * rows, a.width - rows)
                    part(a, scratch, source, target, residual, weights, block, blocks, y, left, ahead, ahead_step)
                elif saved:
                    left = min(x * rows - (x - high_x) * saved, a.width - low)
                    low_part(a, scratch, source, target, residual, weights, block, blocks, y, left, ahead, ahead_step)
                x += 1
                if x == tiles_x:
                    x, y = 0, y + 1

    return run
