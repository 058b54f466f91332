"""3x3 convolutions of bytes by Winograd's F(2x2, 3x3) in whole numbers: 2.25 times fewer products, exact to the bit.

A thread works on chunks of tiles: it copies their pixels into a panel, transforms them to 16 planes, and for each
column tile multiplies all planes and transforms the sums to pixels while they are in the nearest cache.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.quantised_panels import from_blocks, zero_point
from cpuruntime.ops.tiles.integer_shapes import ROW_BYTES

simd = lazy("cpuruntime.compiler.simd")
winograd = lazy("cpuruntime.ops.tiles.integer_winograd")

PLANES = 16

# `chunk` of the tiles_y x tiles_x tiles of an image share a panel, of which `panel_pixel` is a multiple of 2 * LANES.
# Weights lie [column tile][plane][step of a `w16` tile]; the last column tile ends with the last block. `scratch` has
# for each thread the tile's table, the panel of `panel_size` bytes, the planes and the sums of a column tile.
ARGUMENTS = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row weights channels blocks batch inner in_height in_width height "
    "width pad_top pad_left step_y step_x panel_width panel_pixel panel_size tiles_y tiles_x steps chunk parts limits "
    "flip zero zero_at scratch scratch_size"
)


def scratch_bytes(rows: int, columns: int, chunk: int, panel: int, pixel: int) -> int:
    """Scratch memory of one thread, for panels of `panel` bytes and pixels of `pixel`."""
    return (chunk + rows) * ROW_BYTES + panel + PLANES * chunk * (2 * pixel + columns * VECTOR_BYTES)


@cache
@factory
def quantised_winograd(rows: int, columns: int, floats: bool) -> Kernel:
    """The kernel by a `rows` x `columns` tile."""
    tile = made("cpuruntime.ops.tiles.integer_tile", "make_integer_tile", "w16", rows, columns, "sums")
    finish = made("cpuruntime.ops.tiles.integer_winograd", "make_transform_output", floats)
    stage = from_blocks("ubs")
    size = 4 if floats else 1
    name = f"quantised_winograd_{LANES}_{rows}x{columns}" + ("_f32" if floats else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, columns))
    def run(a, thread, threads):
        table = a.scratch + thread * a.scratch_size
        panel = table + (a.chunk + rows) * ROW_BYTES
        planes = panel + a.panel_size
        plane, sums_plane = 2 * a.chunk * a.panel_pixel, columns * a.chunk * VECTOR_BYTES
        sums = planes + PLANES * plane
        count = a.tiles_y * a.tiles_x
        chunks = (count + a.chunk - 1) // a.chunk
        column_tiles = (a.blocks + columns - 1) // columns
        items = a.batch * chunks * a.parts
        zero = zero_point(a)
        weights_plane = a.steps * 4 * columns * VECTOR_BYTES
        staged = -1
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            part, rest = item % a.parts, item // a.parts
            image, begin = rest // chunks, rest % chunks * a.chunk
            tiles = min(count - begin, a.chunk)
            if staged != rest:
                staged = rest
                y0, y1 = begin // a.tiles_x, (begin + tiles - 1) // a.tiles_x
                down = 2 * (y1 - y0) + 4
                stage(a, panel, a.source + image * a.source_batch, zero, 2 * y0, down, 0, a.panel_width)
                for t in range(tiles):
                    y, x = (begin + t) // a.tiles_x - y0, (begin + t) % a.tiles_x
                    pixel = panel + (2 * y * a.panel_width + 2 * x) * a.panel_pixel
                    for block in range(0, a.panel_pixel, 2 * LANES):
                        winograd.transform_input(
                            pixel + block, a.panel_width * a.panel_pixel, a.panel_pixel,
                            planes + 2 * (t * a.panel_pixel + block), plane, zero,
                        )  # fmt: skip
                for t in range((tiles + rows - 1) // rows * rows):
                    row = min(t, tiles - 1)
                    simd.store_i64(table + t * ROW_BYTES, 2 * row * a.panel_pixel)
                    simd.store_i64(table + t * ROW_BYTES + 8, row * VECTOR_BYTES)
            target, residual = a.target + image * a.target_batch, a.residual + image * a.residual_batch
            first = column_tiles * part // a.parts
            for column_tile in range(first, column_tiles * (part + 1) // a.parts):
                block = min(column_tile * columns, a.blocks - columns)
                for p in range(PLANES):
                    weights = a.weights + (column_tile * PLANES + p) * weights_plane
                    for t in range(0, tiles, rows):
                        tile(
                            table + t * ROW_BYTES, planes + p * plane, weights, (1, 1, a.steps, 0, 0, 0, 0, rows),
                            (sums + p * sums_plane, a.chunk * VECTOR_BYTES, 0, 0, 0, 0, 0, 0, LANES),
                        )  # fmt: skip
                for c in range(columns):
                    to = target + (block + c) * a.target_block
                    more = residual + (block + c) * a.residual_block
                    for t in range(tiles):
                        y, x = 2 * ((begin + t) // a.tiles_x), 2 * ((begin + t) % a.tiles_x)
                        finish(
                            sums + (c * a.chunk + t) * VECTOR_BYTES, sums_plane,
                            (
                                to + y * a.target_row + x * LANES * size, a.target_row,
                                more + y * a.residual_row + x * LANES if a.residual != 0 else 0, a.residual_row,
                                a.channels + (block + c) * 4 * VECTOR_BYTES, a.limits, a.height - y, a.width - x,
                            ),
                        )  # fmt: skip

    return run
