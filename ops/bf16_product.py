"""Products of bf16 numbers with float32 sums: of matrices, and of the pixels that a convolution reads.

A matrix is an image of one line, its rows are the pixels. The work is a grid of chunks of pixel tiles by column tiles
of weights. A thread rounds what a chunk reads into a panel of its own, [pixels][numbers], then runs the tiles over it.
A pixel tile is `rows` successive pixels of a line; the last one is moved left until it ends with the line, so some
pixels are computed twice, alike. Weights are those of `matmul` with pairs of numbers for elements.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES, bf16_products, bf16_tiles
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.tiles.finish import make_buffer, make_finish
from cpuruntime.ops.tiles.integer_shapes import TILE_BYTES

simd = lazy("cpuruntime.compiler.simd")
bf16 = lazy("cpuruntime.ops.tiles.bf16_tile")

UNROLL = 4
STEP = max(LANES, 2 * UNROLL)
"""Numbers of a pixel are padded to a multiple of it, with zeros: to whole vectors and loop bodies."""

SIZE = 2
"""Bytes of a number."""
TILE_NUMBERS = TILE_BYTES // SIZE
"""The same multiple for tiles of AMX: the numbers of a row of a tile register."""

# `inner` numbers of a pixel, padded to `padded`. A window reads `in_blocks` blocks at each of its places; `source_step`
# bytes lie between the source pixels of successive outputs, `source_column` between those of kernel columns. LANES
# numbers behind the last panel may be written.
ARGUMENTS = record(
    "source source_batch source_block source_row source_step source_column target target_batch target_block target_row "
    "target_pixel residual residual_batch residual_block residual_row residual_pixel weights bias batch in_height "
    "height width in_blocks run kernel_height kernel_width stride_height dilation_height pad_top inner padded columns "
    "chunk limits scratch scratch_size", alpha="f4", beta="f4",
)  # fmt: skip


@inline
def _from_rows(a, panel, first, count, source):
    """Rounds `count` rows of a matrix, from row `first` on."""
    for i in range(count):
        at, line = panel + i * a.padded * SIZE, source + (first + i) * a.source_step
        for k in range(0, a.padded, LANES):
            if k + LANES <= a.inner:
                bf16.store_bf16(at + k * SIZE, simd.load(line + 4 * k))
            else:
                bf16.store_bf16(at + k * SIZE, simd.load_first(line + 4 * k, max(0, a.inner - k)))


@inline
def _from_blocks(a, panel, first, count, source):
    """Rounds what `count` pixels read of an image in blocks, from pixel `first` on; beyond its lines are zeros."""
    pixel, nothing = a.padded * SIZE, simd.broadcast(0.0)
    column = panel
    for ky in range(a.kernel_height):
        for kx in range(a.kernel_width):
            for block in range(a.in_blocks):
                at, y, x, left = column, first // a.width, first % a.width, count
                while left > 0:
                    run = min(left, a.width - x)
                    line = y * a.stride_height - a.pad_top + ky * a.dilation_height
                    here = source + block * a.source_block + line * a.source_row
                    here += kx * a.source_column + x * a.source_step
                    if 0 <= line < a.in_height:
                        for i in range(run):
                            bf16.store_bf16(at + i * pixel, simd.load(here + i * a.source_step))
                    else:
                        for i in range(run):
                            bf16.store_bf16(at + i * pixel, nothing)
                    at += run * pixel
                    left -= run
                    y, x = y + 1, 0
                column += LANES * SIZE
    if a.inner < a.padded:
        for i in range(count):
            _clear(a, panel + i * pixel)


@inline
def _clear(a, pixel):
    """Writes zeros behind the last whole vector of a pixel."""
    for k in range(a.inner - a.inner % LANES, a.padded, LANES):
        bf16.store_bf16(pixel + k * SIZE, simd.broadcast(0.0))


@inline
def _from_pixels(a, panel, first, count, source):
    """The same of an image of a few channels, pixel by pixel: under a kernel row lie `run` numbers."""
    for i in range(count):
        y, x = (first + i) // a.width, (first + i) % a.width
        at = panel + i * a.padded * SIZE
        _clear(a, at)
        for ky in range(a.kernel_height):
            line = y * a.stride_height - a.pad_top + ky * a.dilation_height
            here = source + line * a.source_row + x * a.source_step
            present = a.run if 0 <= line < a.in_height else 0
            for k in range(0, a.run, LANES):
                value = simd.load_first(here + 4 * k, max(0, min(LANES, present - k)))
                bf16.store_bf16(at + k * SIZE, value)
            at += a.run * SIZE


_SOURCES = {"rows": _from_rows, "blocks": _from_blocks, "pixels": _from_pixels}


def _make_part(rows: int, columns: int, activation: str, by_tiles: bool) -> Inline:
    """`part(...)` computes a tile of the panel; where `ahead` is not 0 it asks for some of the weights there."""
    activated = activation != ""
    finish = make_finish(rows, columns, activation)
    body = TILE_NUMBERS if by_tiles else 2 * UNROLL
    if by_tiles:
        tile = made("cpuruntime.ops.tiles.amx_tile", "make_bf16_amx_tile", rows, columns)
    else:
        tile = made("cpuruntime.ops.tiles.bf16_tile", "make_bf16_tile", rows, columns, UNROLL, UNROLL)

    @inline
    def part(a, buffer, panel, target, residual, weights, block, tail, ahead):
        tile(
            panel,
            a.padded * SIZE,
            weights,
            0,
            (
                1, 1, 1, a.padded // body, 0, 0, 0, 0, 0,
                ahead if ahead != 0 else weights, UNROLL * LINE if ahead != 0 else 0,
            ),
            (
                buffer if activated else target, VECTOR_BYTES if activated else a.target_block,
                columns * VECTOR_BYTES if activated else a.target_pixel,
                residual, a.residual_block, a.residual_pixel, a.bias + block * VECTOR_BYTES, a.limits, tail,
            ),
        )  # fmt: skip
        finish(a, buffer, target, a.target_pixel, a.target_block, tail)

    return part


@cache
@factory
def bf16_product(rows: int, columns: int, source: str, activation: str = "", by_tiles: bool = False) -> Kernel:
    """The product by a `rows` x `columns` tile; needs lines of `rows` pixels and more than columns - 1 vectors.

    `source` is "blocks" or "pixels" of an image, or "rows" of a matrix; `chunk` pixel tiles share a panel.
    `activation` is "" or one of `ACTIVATIONS`, with its parameters in `alpha` and `beta`; it comes after the limits.
    `by_tiles`: by the tile registers of AMX, see `AMX_SHAPES`.
    """
    buffer, part = make_buffer(rows, columns, activation), _make_part(rows, columns, activation, by_tiles)
    stage, native = _SOURCES[source], bf16_tiles() if by_tiles else ""
    begin_tiles = made("cpuruntime.ops.tiles.tile_registers", "make_begin", native != "")
    end_tiles = made("cpuruntime.ops.tiles.tile_registers", "make_end", native != "")
    features = ",".join(filter(None, (bf16_products(), native)))
    name = f"bf16_product{'_amx' * by_tiles}{features}_{LANES}_{rows}x{columns}_{source}"
    name += f"_{activation}" if activation else ""

    @kernel(ARGUMENTS, name=name, tile=(rows, columns), features=features)
    def run(a, thread, threads):
        buffered, panel = buffer(), a.scratch + thread * a.scratch_size
        blocks = (a.columns + LANES - 1) // LANES
        column_tiles = (blocks + columns - 1) // columns
        tiles_x = (a.width + rows - 1) // rows
        tiles = a.height * tiles_x
        chunks = (tiles + a.chunk - 1) // a.chunk
        column_bytes = a.padded // 2 * columns * VECTOR_BYTES
        fetched = a.padded // (2 * UNROLL) * UNROLL * LINE
        items = a.batch * chunks * column_tiles
        staged, first = -1, 0
        begin_tiles()
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            column_tile, rest = item % column_tiles, item // column_tiles
            image, begin = rest // chunks, rest % chunks * a.chunk
            end = min(tiles, begin + a.chunk)
            if staged != rest:
                staged = rest
                first = begin // tiles_x * a.width + min(begin % tiles_x * rows, a.width - rows)
                last = (end - 1) // tiles_x * a.width + min((end - 1) % tiles_x * rows, a.width - rows)
                stage(a, panel, first, last + rows - first, a.source + image * a.source_batch)
            block = min(column_tile * columns, blocks - columns)
            tail = min(LANES, a.columns - (block + columns - 1) * LANES)
            target = a.target + image * a.target_batch + block * a.target_block
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            weights = a.weights + column_tile * column_bytes
            # The next column tile's weights: each of the first tiles asks for a part of them.
            behind = weights + column_bytes
            for t in range(begin, end):
                y, x = t // tiles_x, min(t % tiles_x * rows, a.width - rows)
                ahead = behind + (t - begin) * fetched
                part(
                    a, buffered, panel + (y * a.width + x - first) * a.padded * SIZE,
                    target + y * a.target_row + x * a.target_pixel,
                    residual + y * a.residual_row + x * a.residual_pixel if a.residual != 0 else 0,
                    weights, block, tail, ahead if ahead < behind + column_bytes and end - begin > 1 else 0,
                )  # fmt: skip
        end_tiles()

    return run
