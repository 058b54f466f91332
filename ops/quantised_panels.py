"""Panels: the activations that integer tiles read, as each thread lays them out in scratch memory of its own.

A panel is [rows][pixels][channels], the channels padded to whole steps; padding of the image is in it as the zero
point. So kernels need no halo, and a matrix of rows is a panel like an image.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, inline, kernel, lazy, made, record
from cpuruntime.ops.tiles.integer_shapes import CHANNELS, ROW_BYTES, bytes_of

simd = lazy("cpuruntime.compiler.simd")
shuffle = lazy("cpuruntime.compiler.shuffle")
byte_lanes = lazy("cpuruntime.compiler.byte_lanes")
lanes = lazy("cpuruntime.ops.tiles.integer_lanes")

WIDE = 4
"""Pixels of one block that are copied at once."""


@inline
def zero_point(a):
    """What stands for 0 in the source, made unsigned."""
    if a.zero_at != 0:
        return simd.load_u8(a.zero_at) ^ a.flip
    return a.zero


@cache
def from_blocks(kind: str) -> Inline:
    """`stage(a, panel, source, zero, y0, rows, x0, columns)` copies a part of an image in blocks.

    `y0` and `x0` are in the padded image; `a.step_y` and `a.step_x` source pixels lie between those of the panel. Whole
    vectors are written from left to right: of pixels with fewer channels the next one covers what is too much.
    """
    size, wide = bytes_of(kind), kind == "w16"
    move = made("cpuruntime.ops.tiles.integer_lanes", "move_vector", wide)

    @inline
    def stage(a, panel, source, zero, y0, rows, x0, columns):
        first = min(columns, max(0, (a.pad_left - x0 + a.step_x - 1) // a.step_x))
        last = max(first, min(columns, (a.in_width + a.pad_left - x0 + a.step_x - 1) // a.step_x))
        blocks = (a.inner + LANES - 1) // LANES
        empty = 0 if wide else zero
        for i in range(rows):
            y = y0 + i * a.step_y - a.pad_top
            line = panel + i * a.panel_width * a.panel_pixel
            if y < 0 or y >= a.in_height:
                begin, end = columns, columns
            else:
                begin, end = first, last
            for at in range(line, line + begin * a.panel_pixel, LANES):
                lanes.fill_bytes(at, empty)
            pixel = source + y * a.source_row + (x0 + begin * a.step_x - a.pad_left) * LANES
            for block in range(blocks):
                at, here = line + begin * a.panel_pixel + block * LANES * size, pixel + block * a.source_block
                count, ahead, on = end - begin, a.panel_pixel, a.step_x * LANES
                if not wide and ahead == LANES and on == LANES:
                    while count >= WIDE:
                        lanes.move_wide(at, here, a.flip)
                        at += WIDE * LANES
                        here += WIDE * LANES
                        count -= WIDE
                while count >= 4:
                    for i in range(4):
                        move(at + i * ahead, here + i * on, a.flip, zero)
                    at += 4 * ahead
                    here += 4 * on
                    count -= 4
                for i in range(count):
                    move(at + i * ahead, here + i * on, a.flip, zero)
            for at in range(line + end * a.panel_pixel, line + columns * a.panel_pixel, LANES):
                lanes.fill_bytes(at, empty)

    return stage


@inline
def clear_line(a, line, zero):
    """Writes a line of an image that stands for 0."""
    for at in range(line, line + a.in_width * LANES, LANES):
        lanes.fill_bytes(at, zero ^ a.flip)


@inline
def pairs_of_rows(a, panel, source, zero, y0, lines, empty):
    """Copies one block of an image, each pixel beside that `a.walk_row` rows below it, as 16-bit numbers less `zero`.

    The panel's lines have `a.panel_width` pixels and lie `a.step_y` rows apart in the padded image, from `y0` on.
    `empty` stands for lines beyond the image, see `clear_line`.
    """
    pixel, flip = 4 * LANES, a.flip
    first = min(a.panel_width, a.pad_left)
    last = max(first, min(a.panel_width, a.in_width + a.pad_left))
    for i in range(lines):
        y = y0 + i * a.step_y - a.pad_top
        below = y + a.walk_row
        line = panel + i * a.panel_width * pixel
        for at in range(line, line + first * pixel, LANES):
            lanes.fill_bytes(at, 0)
        upper = source + y * a.source_row if 0 <= y < a.in_height else empty
        lower = source + below * a.source_row if 0 <= below < a.in_height else empty
        at, here = line + first * pixel, (first - a.pad_left) * LANES
        for _ in range(last - first):
            lanes.store_pairs(at, upper + here, lower + here, flip, zero)
            at += pixel
            here += LANES
        for at in range(line + last * pixel, line + a.panel_width * pixel, LANES):
            lanes.fill_bytes(at, 0)


@cache
def from_rows(kind: str) -> Inline:
    """`stage(a, panel, source, zero, y0, rows, x0, columns)` copies `columns` rows of a matrix from row `x0` on."""
    size, wide = bytes_of(kind), kind == "w16"
    move = made("cpuruntime.ops.tiles.integer_lanes", "move_vector", wide)
    move_byte = made("cpuruntime.ops.tiles.integer_lanes", "move_byte", wide)

    @inline
    def stage(a, panel, source, zero, y0, rows, x0, columns):
        for i in range(columns):
            at, line = panel + i * a.panel_pixel, source + (x0 + i) * a.source_row
            if a.inner < LANES:
                for k in range(a.inner):
                    move_byte(at + k * size, line + k, a.flip, zero)
            else:
                for k in range(0, a.inner, LANES):
                    first = min(k, a.inner - LANES)
                    move(at + first * size, line + first, a.flip, zero)

    return stage


@inline
def name_pixels(a, table, begin, end, y0, x0, count):
    """Writes the rows of the tiles' table for output pixels begin .. end; rows up to `count` repeat the last one."""
    width, y, x = a.width, begin // a.width, begin % a.width
    right, line = a.panel_right * a.panel_pixel, a.panel_down * a.panel_width * a.panel_pixel
    target_right, residual_right, scale_right = a.target_pixel, a.residual_pixel, a.row_scale_step
    source, scale = (y - y0) * line + (x - x0) * right, begin * scale_right
    target, residual = y * a.target_row + x * target_right, y * a.residual_row + x * residual_right
    # From the last pixel of a row to the first of the next.
    down, target_down = line - width * right, a.target_row - width * target_right
    residual_down = a.residual_row - width * residual_right
    for i in range(count):
        row = table + i * ROW_BYTES
        simd.store_i64(row, source)
        simd.store_i64(row + 8, target)
        simd.store_i64(row + 16, residual)
        simd.store_i64(row + 24, scale)
        if begin + i + 1 < end:
            source, target, residual, scale = (
                source + right, target + target_right, residual + residual_right, scale + scale_right
            )  # fmt: skip
            x += 1
            if x == width:
                x, source, target, residual = 0, source + down, target + target_down, residual + residual_down


@inline
def name_sums(a, table, panel, rows, count):
    """Writes into the tiles' table what the zero point of the right side adds to the sums of `rows` rows; those up to
    `count` repeat the last one."""
    for i in range(count):
        line, total = panel + min(i, rows - 1) * a.panel_pixel, simd.words(0)
        many = a.inner - a.inner % (4 * LANES)
        for k in range(0, many, 4 * LANES):
            total = lanes.add_bytes(total, line + k)
        for k in range(many, a.inner, LANES):
            total = total + byte_lanes.load_first_words(line + k, min(LANES, a.inner - k))
        # Exact: such a sum is below 2^24.
        whole = int(simd.sum_lanes(simd.to_floats(total)))
        simd.store_i64(table + i * ROW_BYTES + 16, whole * (128 - a.right_zero))


PACK = record("source source_batch target target_batch batch inner steps columns tile_columns flip zero")
PACK_QUADS = record(
    "source source_batch target target_batch batch inner steps columns tile_columns flip zero channels channels_batch "
    "parameters"
)


@kernel(PACK)
def pack_pairs(a, thread, threads):
    """Packs right sides [batch][inner][columns] of bytes for `w16` tiles, less their zero point; the rest is zeros."""
    blocks = (a.columns + LANES - 1) // LANES
    tiles = (blocks + a.tile_columns - 1) // a.tile_columns
    pairs = a.steps * CHANNELS // 2
    items = a.batch * tiles
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        image, t = item // tiles, item % tiles
        first = min(t * a.tile_columns, blocks - a.tile_columns)
        target = a.target + image * a.target_batch + t * pairs * a.tile_columns * 4 * LANES
        for pair in range(pairs):
            for block in range(first, first + a.tile_columns):
                row = a.source + image * a.source_batch + 2 * pair * a.columns + block * LANES
                count = min(2, max(0, a.inner - 2 * pair))
                if count == 2 and (block + 1) * LANES <= a.columns:
                    lanes.store_pairs(target, row, row + a.columns, a.flip, a.zero)
                else:
                    for lane in range(LANES):
                        for k in range(2):
                            number = 0
                            if k < count and block * LANES + lane < a.columns:
                                number = (simd.load_u8(row + k * a.columns + lane) ^ a.flip) - a.zero
                            lanes.store_half(target + 4 * lane + 2 * k, number)
                target += 4 * LANES


@kernel(PACK_QUADS)
def pack_quads(a, thread, threads):
    """Packs right sides of bytes for `vnni_both` tiles, as signed numbers; the rest is zeros.

    `channels` of each of the batch become `parameters`, with the sums of the right side's columns less its zero point.
    """
    blocks = (a.columns + LANES - 1) // LANES
    tiles = (blocks + a.tile_columns - 1) // a.tile_columns
    quads, flip = a.steps * CHANNELS // 4, a.flip ^ 128
    items = a.batch * tiles
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        image, t = item // tiles, item % tiles
        first = min(t * a.tile_columns, blocks - a.tile_columns)
        source = a.source + image * a.source_batch
        target = a.target + image * a.target_batch + t * quads * a.tile_columns * 4 * LANES
        for quad in range(quads):
            for block in range(first, first + a.tile_columns):
                row = source + 4 * quad * a.columns + block * LANES
                count = min(4, max(0, a.inner - 4 * quad))
                if count == 4 and (block + 1) * LANES <= a.columns:
                    lanes.store_quads(
                        target, row, row + a.columns, row + 2 * a.columns, row + 3 * a.columns, flip
                    )  # fmt: skip
                else:
                    for lane in range(LANES):
                        for k in range(4):
                            number = 0
                            if k < count and block * LANES + lane < a.columns:
                                number = simd.load_u8(row + k * a.columns + lane) ^ flip
                            simd.store_u8(target + 4 * lane + k, number)
                target += 4 * LANES
        for block in range(first, first + a.tile_columns):
            _name_columns(a, source, a.channels + image * a.channels_batch, block)


@inline
def _name_columns(a, source, channels, block):
    """Writes the parameters of a block of columns."""
    total, flip = simd.words(-a.inner * a.zero), simd.words(a.flip)
    for k in range(a.inner):
        at = source + k * a.columns + block * LANES
        total = total + (byte_lanes.load_first_words(at, min(LANES, a.columns - block * LANES)) ^ flip)
    at = block * 4 * VECTOR_BYTES
    for i in range(4):
        numbers = shuffle.load_words(a.parameters + at + i * VECTOR_BYTES)
        shuffle.store_words(channels + at + i * VECTOR_BYTES, total if i == 1 else numbers)
