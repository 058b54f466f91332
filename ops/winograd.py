"""Winograd convolution on the blocked layout, by any method of `winograd_methods`.

Tiles are taken in groups, so that a group's transformed input and products stay near the second-level cache. A thread
works on whole groups with scratch memory of its own: transforms the input, multiplies it by the transformed weights
with register tiles, and transforms the products to pixels. Every group has the same number of tiles; the last ones are
moved back until they end with the last tile, and what is computed twice is alike.

A method that rounds keeps the transformed input as bf16, and multiplies pairs of its numbers by pairs of weights.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES, bf16_products
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.tiles.finish import make_finish
from cpuruntime.ops.winograd_methods import Method

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")

UNROLL = 4
ZEROS = 16
"""Vectors of zeros at `zeros`: no tile's input is wider, no register tile has more columns."""
AHEAD = 4
"""Tiles from the one worked on to the one whose pixels are asked for."""

# scratch: one piece of scratch_size bytes for each thread. Tiles lie in `tiles_y` rows of `tiles_x` in each image, and
# `group` of them, of any images, make a group. The channels fall into `parts` that do not mix, of in_blocks and
# out_blocks each. Weights lie [part][product][column tile][in block][LANES][columns][LANES], column tiles as in
# `matmul`, those in bf16 as ...[LANES / 2][columns][LANES][2]. The halo to the right of the source reaches to the end
# of the last tile's input.
WINOGRAD = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row input_phase product_phase output_phase "
    "weights bias zeros limits scratch scratch_size batch parts in_blocks out_blocks in_height height width pad_top "
    "tiles_x tiles_y group products in_plane out_plane", alpha="f4", beta="f4",
)  # fmt: skip

WEIGHTS = record("source source_row target target_plane vectors")


@cache
@factory
def winograd_weights(method: Method) -> Kernel:
    """Transforms `vectors` vectors of weights: a row of them for each tap at `source` to a plane for each product."""
    transform = made("cpuruntime.ops.winograd_transforms", "transform_weights", method)

    @kernel(WEIGHTS, name=f"winograd_weights_f32_{LANES}_{method.name}")
    def run(a, thread, threads):
        for i in range(a.vectors * thread // threads, a.vectors * (thread + 1) // threads):
            transform(a.source + i * VECTOR_BYTES, a.source_row, a.target + i * VECTOR_BYTES, a.target_plane)

    return run


def plane_bytes(blocks: int, group: Any, rounds: bool = False) -> Any:
    """Bytes between the planes of a group: an odd number of vectors, so that planes lie in different cache sets."""
    vectors = -(-blocks * group // 2) if rounds else blocks * group
    return (vectors // 2 * 2 + 1) * VECTOR_BYTES


def _numbers(rounds: bool) -> str:
    return f"bf16{bf16_products()}" if rounds else "f32"


def scratch_bytes(method: Method, in_blocks: int, out_blocks: int, group: Any) -> Any:
    """Scratch memory of one thread: both sets of planes, and a tile of pixels twice."""
    inputs, outputs = plane_bytes(in_blocks, group, method.rounds), plane_bytes(out_blocks, group)
    planes = method.products * (inputs + outputs)
    return planes + 2 * method.outputs * VECTOR_BYTES


@inline
def _first(a, item):
    """The part of a work item, and its first tile: block, number in the group, image, row and column of tiles."""
    tiles = a.batch * a.tiles_y * a.tiles_x
    groups = (tiles + a.group - 1) // a.group
    first = min(item % groups * a.group, tiles - a.group)
    row = first // a.tiles_x
    return item // groups, (0, 0, row // a.tiles_y, row % a.tiles_y, first % a.tiles_x)


@inline
def _next(a, first, tile):
    """The tile after `tile`; the first one of the next block after the last one of a group."""
    block, t, image, y, x = tile
    t, x = t + 1, x + 1
    if t == a.group:
        return block + 1, 0, first[2], first[3], first[4]
    if x == a.tiles_x:
        x, y = 0, y + 1
        if y == a.tiles_y:
            y, image = 0, image + 1
    return block, t, image, y, x


@inline
def _ahead(a, first):
    """The tile whose pixels are asked for while the first one is worked on."""
    tile = first
    for _ in range(AHEAD):
        tile = _next(a, first, tile)
    return tile


@inline
def _copy(source, source_row, target, target_row, rows, columns):
    for i in range(rows):
        for j in range(columns):
            pixel = simd.load(source + i * source_row + j * VECTOR_BYTES)
            simd.store(target + i * target_row + j * VECTOR_BYTES, pixel)


@cache
@factory
def _input_phase(method: Method) -> Kernel:
    """Transforms the input of work item `item` into the scratch memory of `thread`."""
    transform = made("cpuruntime.ops.winograd_transforms", "transform_input", method)
    v, h = method.vertical, method.horizontal
    step_y, step_x = v.outputs * v.stride, h.outputs * h.stride
    fetch = made("cpuruntime.ops.winograd_transforms", "fetch_pixels", v.inputs, step_x, False)
    # Pixels at the left of a tile's input are those at the right of the tile before it.
    fresh = (h.inputs - step_x) * VECTOR_BYTES
    pixel, features = (VECTOR_BYTES // 2, bf16_products()) if method.rounds else (VECTOR_BYTES, "")

    @kernel(WINOGRAD, name=f"winograd_input_{_numbers(method.rounds)}_{LANES}_{method.name}", features=features)
    def run(a, item, thread):
        part, first = _first(a, item)
        base = a.source + part * a.in_blocks * a.source_block - a.pad_top * a.source_row
        scratch = a.scratch + thread * a.scratch_size
        tile, later = first, _ahead(a, first)
        for _ in range(a.in_blocks * a.group):
            block, _, image, y, x = later
            fetch(
                base + image * a.source_batch + block * a.source_block
                + y * step_y * a.source_row + x * step_x * VECTOR_BYTES + fresh,
                a.source_row,
            )  # fmt: skip
            block, t, image, y, x = tile
            transform(
                a.source + image * a.source_batch + (part * a.in_blocks + block) * a.source_block
                + x * step_x * VECTOR_BYTES,
                a.source_row, y * step_y - a.pad_top, a.in_height, a.zeros,
                scratch + (block * a.group + t) * pixel, a.in_plane,
            )  # fmt: skip
            tile, later = _next(a, first, tile), _next(a, first, later)

    return run


@cache
@factory
def _product_phase(rows: int, columns: int, rounds: bool) -> Kernel:
    """Multiplies the transformed input in the scratch memory of `thread` by the weights."""
    if rounds:
        pixel, elements, unroll = VECTOR_BYTES // 2, LANES // 2, min(UNROLL, LANES // 2)
        tile = made("cpuruntime.ops.tiles.bf16_tile", "make_bf16_block_tile", rows, columns, unroll)
        family, features = "bf16_winograd", bf16_products()
    else:
        pixel, elements, unroll = VECTOR_BYTES, LANES, UNROLL
        tile = made("cpuruntime.ops.tiles.register_tile", "make_tile", rows, columns, unroll, pixel, False, unroll)
        family, features = "winograd", ""
    name = f"winograd_product_{_numbers(rounds)}_{LANES}_{rows}x{columns}"

    @kernel(WINOGRAD, name=name, family=family, tile=(rows, columns), features=features)
    def run(a, item, thread):
        planes_in = a.scratch + thread * a.scratch_size
        planes_out = planes_in + a.products * a.in_plane
        column_tiles = (a.out_blocks + columns - 1) // columns
        panel = a.in_blocks * elements * columns * VECTOR_BYTES
        part = _first(a, item)[0]
        depth = a.group * VECTOR_BYTES
        for p in range(a.products):
            for c in range(column_tiles):
                block = min(c * columns, a.out_blocks - columns)
                weights = a.weights + ((part * a.products + p) * column_tiles + c) * panel
                for row in range(0, a.group, rows):
                    r = min(row, a.group - rows)
                    # The next panel: each of the first `columns` tiles asks for a part of it.
                    fetched = row // rows * a.in_blocks * elements * LINE
                    fetching = fetched < panel
                    tile(
                        planes_in + p * a.in_plane + r * pixel, 0, weights, 0,
                        (
                            a.in_blocks, 1, 1, elements // unroll,
                            a.group * pixel, 0, 0, elements * columns * VECTOR_BYTES, 0,
                            weights + panel + fetched if fetching else weights, unroll * LINE if fetching else 0,
                        ),
                        (
                            planes_out + p * a.out_plane + block * depth + r * VECTOR_BYTES, depth, VECTOR_BYTES,
                            0, 0, 0, a.zeros, 0, LANES,
                        ),
                    )  # fmt: skip

    return run


@cache
@factory
def _output_phase(method: Method, activation: str) -> Kernel:
    """Transforms the products in the scratch memory of `thread` to the pixels of work item `item`."""
    activated = activation != ""
    finish = make_finish(1, 1, activation)
    transform = made("cpuruntime.ops.winograd_transforms", "transform_output", method)
    m_y, m_x = method.vertical.outputs, method.horizontal.outputs
    fetch = made("cpuruntime.ops.winograd_transforms", "fetch_pixels", m_y, m_x, True)
    tile_row, pixels = m_x * VECTOR_BYTES, method.outputs * VECTOR_BYTES

    @kernel(WINOGRAD, name=f"winograd_output_f32_{LANES}_{method.name}" + (f"_{activation}" if activated else ""))
    def run(a, item, thread):
        part, first = _first(a, item)
        products = a.scratch + thread * a.scratch_size + a.products * a.in_plane
        corner = products + a.products * a.out_plane
        spare = corner + pixels
        first_block = part * a.out_blocks
        base = a.target + first_block * a.target_block
        tile, later = first, _ahead(a, first)
        for _ in range(a.out_blocks * a.group):
            block, _, image, y, x = later
            fetch(
                base + image * a.target_batch + block * a.target_block + y * m_y * a.target_row + x * tile_row,
                a.target_row,
            )
            block, t, image, tile_y, tile_x = tile
            y, x = tile_y * m_y, tile_x * m_x
            place = base + image * a.target_batch + block * a.target_block + y * a.target_row + x * VECTOR_BYTES
            other = (
                a.residual + image * a.residual_batch + (first_block + block) * a.residual_block
                + y * a.residual_row + x * VECTOR_BYTES
            ) if a.residual != 0 else 0  # fmt: skip
            rows, columns = min(m_y, a.height - y), min(m_x, a.width - x)
            whole = rows == m_y and columns == m_x
            direct = whole and not activated
            if not whole and other != 0:
                _copy(other, a.residual_row, spare, tile_row, rows, columns)
                other = spare
            transform(
                products + (block * a.group + t) * VECTOR_BYTES, a.out_plane,
                place if direct else corner, a.target_row if direct else tile_row,
                other, a.residual_row if whole else tile_row, a.bias + (first_block + block) * VECTOR_BYTES, a.limits,
            )  # fmt: skip
            if activated:
                for i in range(rows):
                    for j in range(0, columns * VECTOR_BYTES, VECTOR_BYTES):
                        finish(a, corner + i * tile_row + j, place + i * a.target_row + j, 0, 0, LANES)
            elif not whole:
                _copy(corner, tile_row, place, a.target_row, rows, columns)
            tile, later = _next(a, first, tile), _next(a, first, later)

    return run


@kernel(WINOGRAD)
def winograd(a, thread, threads):
    """Runs the three phases for each group of this thread's share."""
    items = a.parts * ((a.batch * a.tiles_y * a.tiles_x + a.group - 1) // a.group)
    arguments = system.address_of(a)
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        system.call(a.input_phase, arguments, item, thread)
        system.call(a.product_phase, arguments, item, thread)
        system.call(a.output_phase, arguments, item, thread)


def phases(method: Method, rows: int, columns: int, activation: str) -> dict[str, Kernel]:
    """The kernels whose addresses go into the fields of these names. `activation` as in `convolution`.

    `rows` x `columns` is the register tile: `group` is at least `rows`, at most the number of tiles, and
    out_blocks >= columns.
    """
    return {
        "input_phase": _input_phase(method),
        "product_phase": _product_phase(rows, columns, method.rounds),
        "output_phase": _output_phase(method, activation),
    }
