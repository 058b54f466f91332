"""Convolution and matrix product of 8-bit operands by integer tiles, exact to the bit.

The work is a grid of chunks of output pixels by column tiles (see `COLUMN_TILE`). A thread copies what a chunk reads
into a panel of its own, then runs the tiles over it. A matrix is an image of one line, its rows are the pixels.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, byte_tiles
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.quantised_panels import from_blocks, from_rows, name_pixels, name_sums, zero_point
from cpuruntime.ops.tiles.integer_shapes import AMX, BOTH, ROW_BYTES, features_of

simd = lazy("cpuruntime.compiler.simd")

# One row per column tile: byte offset of its weights, its first output block, byte offset of its extra steps.
COLUMN_TILE = record("weights block extras")
_WEIGHTS, _BLOCK, _EXTRAS = (8 * i for i in range(3))
_TILE_BYTES = COLUMN_TILE.itemsize

# Channels fall into `groups` that do not mix, of `inner` inputs and `column_tile_count` column tiles each. `chunk`
# output pixels share a panel of `panel_width` pixels a row, `panel_pixel` bytes each; `panel_down` and `panel_right` of
# its pixels lie between those of successive outputs. `parts` divide the column tiles of a chunk among threads.
# `channels` are [block][4][LANES]: int32 bias and sum of weights, float32 multiplier and bias. `limits` are LIMITS.
# `right_zero` is the unsigned zero point of a right side that `pack_quads` packs; it makes `channels` for each image.
# Of a float32 result the multiplier is also that of the row, at `row_scale`; float32 limits are its `low` and `high`.
ARGUMENTS = record(
    "source source_batch source_block source_row source_group target target_batch target_block target_row target_pixel "
    "residual residual_batch residual_block residual_row residual_pixel weights weights_batch channels extras "
    "column_tiles column_tile_count groups batch inner columns in_height in_width height width pad_top pad_left "
    "step_y step_x panel_down panel_right panel_width panel_pixel kernel_height kernel_width reach_y reach_x "
    "walk_row walk_column steps gathered chunk parts limits row_scale row_scale_step flip zero zero_at right_zero "
    "channels_batch scratch scratch_size"
)


@cache
@factory
def quantised_product(kind: str, rows: int, columns: int, source: str, floats: bool) -> Kernel:
    """The kernel of a `rows` x `columns` tile of a kind, see `make_integer_tile`.

    `source` is "blocks" (of an image) or "rows" (of a matrix); `floats` as for the tile. `walk_row` and `walk_column`
    are the panel bytes from kernel row to kernel row and from run to run of `steps` steps; `reach_y`, `reach_x` the
    panel pixels that one output pixel reads down and across. `gathered` is the tile's; GATHER bytes behind a panel may
    be read. Kinds of AMX need images of one line, and read `rows` pixels behind the panel, too.
    """
    result = "floats" if floats else "bytes"
    module, make = ("amx_tile", "make_amx_tile") if kind in AMX else ("integer_tile", "make_integer_tile")
    tile = made(f"cpuruntime.ops.tiles.{module}", make, kind, rows, columns, result)
    native = kind in AMX and byte_tiles() != ""
    begin_tiles = made("cpuruntime.ops.tiles.tile_registers", "make_begin", native)
    end_tiles = made("cpuruntime.ops.tiles.tile_registers", "make_end", native)
    stage = from_blocks(kind) if source == "blocks" else from_rows(kind)
    features, both = features_of(kind), kind in BOTH
    name = f"quantised_{kind}{features}_{LANES}_{rows}x{columns}_{source}" + ("_f32" if floats else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, columns), features=features)
    def run(a, thread, threads):
        table = a.scratch + thread * a.scratch_size
        panel = table + (a.chunk + rows) * ROW_BYTES
        pixels = a.height * a.width
        chunks = (pixels + a.chunk - 1) // a.chunk
        items = a.batch * chunks * a.groups * a.parts
        zero = zero_point(a)
        staged = -1
        begin_tiles()
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            part, rest = item % a.parts, item // a.parts
            group, image, chunk = rest % a.groups, rest // a.groups // chunks, rest // a.groups % chunks
            begin = chunk * a.chunk
            end = min(pixels, begin + a.chunk)
            tiles = (end - begin + rows - 1) // rows
            if staged != rest:
                staged = rest
                y0, y1 = begin // a.width, (end - 1) // a.width
                x0, x1 = 0, a.width - 1
                if y0 == y1:
                    x0, x1 = begin % a.width, (end - 1) % a.width
                stage(
                    a, panel, a.source + image * a.source_batch + group * a.source_group, zero,
                    y0 * a.panel_down * a.step_y, (y1 - y0) * a.panel_down + a.reach_y,
                    x0 * a.panel_right * a.step_x, (x1 - x0) * a.panel_right + a.reach_x,
                )  # fmt: skip
                name_pixels(a, table, begin, end, y0, x0, tiles * rows)
                if both:
                    name_sums(a, table, panel, end - begin, tiles * rows)
            target, residual = a.target + image * a.target_batch, a.residual + image * a.residual_batch
            channels = a.channels + image * a.channels_batch
            first = a.column_tile_count * part // a.parts
            for column_tile in range(first, a.column_tile_count * (part + 1) // a.parts):
                entry = a.column_tiles + (group * a.column_tile_count + column_tile) * _TILE_BYTES
                block = simd.load_i64(entry + _BLOCK)
                weights = a.weights + image * a.weights_batch + simd.load_i64(entry + _WEIGHTS)
                extras = a.extras + simd.load_i64(entry + _EXTRAS)
                tail = min(LANES, a.columns - (block + columns - 1) * LANES)
                for t in range(tiles):
                    tile(
                        table + t * rows * ROW_BYTES,
                        panel,
                        weights,
                        (
                            a.kernel_height, a.kernel_width, a.steps, a.walk_row, a.walk_column, a.gathered, extras,
                            min(rows, end - begin - t * rows),
                        ),
                        (
                            target + block * a.target_block, a.target_block,
                            residual + block * a.residual_block if a.residual != 0 else 0, a.residual_block,
                            a.row_scale, channels + block * 4 * VECTOR_BYTES, 0 if kind == "w16" else zero,
                            a.limits, tail,
                        ),
                    )  # fmt: skip
        end_tiles()

    return run
