"""Winograd convolution: 3 x 3 kernels of stride 1 on the blocked layout, by F(4 x 4, 3 x 3) or F(2 x 2, 3 x 3).

Tiles are taken in groups, so that a group's transformed input and products stay near the second-level cache. A thread
works on whole groups with scratch memory of its own: transforms the input, multiplies it by the transformed weights
with register tiles, and transforms the products to pixels. Every group has the same number of tiles; the last ones are
moved back until they end with the last tile, and what is computed twice is alike.
"""

from __future__ import annotations

from functools import cache

from .isa import LANES, LINE, VECTOR_BYTES
from .jit import Kernel, inline, kernel, lazy, made, record

simd = lazy("simd")
system = lazy("system")

UNROLL = 4
ZEROS = 8
"""Vectors of zeros at `zeros`: as many as the input of a tile is wide, and as a register tile has columns."""

# scratch: one piece of scratch_size bytes for each thread. Tiles lie in `tiles_y` rows of `tiles_x`, `group` of them
# make a group; `products` is (m + 2)^2. Weights lie [product][column tile][in block][LANES][columns][LANES], column
# tiles as in `matmul`. The halo to the right of the source reaches to the end of the last tile's input.
WINOGRAD = record(
    source="i8", source_batch="i8", source_block="i8", source_row="i8",
    target="i8", target_batch="i8", target_block="i8", target_row="i8",
    residual="i8", residual_batch="i8", residual_block="i8", residual_row="i8",
    input_phase="i8", product_phase="i8", output_phase="i8",
    weights="i8", bias="i8", zeros="i8", limits="i8", scratch="i8", scratch_size="i8",
    batch="i8", in_blocks="i8", out_blocks="i8", in_height="i8", height="i8", width="i8", pad_top="i8",
    tiles_x="i8", tiles_y="i8", group="i8", products="i8", in_plane="i8", out_plane="i8",
)  # fmt: skip

WEIGHTS = record(source="i8", source_row="i8", target="i8", target_plane="i8", vectors="i8")


@cache
def winograd_weights(m: int) -> Kernel:
    """Transforms `vectors` vectors of 3 x 3 weights: nine rows of them at `source` to (m + 2)^2 planes at `target`."""
    transform = made("winograd_transforms", "transform_weights", m)

    @kernel(WEIGHTS, name=f"winograd_weights_f32_{LANES}_{m}x{m}")
    def run(a, thread, threads):
        for i in range(a.vectors * thread // threads, a.vectors * (thread + 1) // threads):
            transform(a.source + i * VECTOR_BYTES, a.source_row, a.target + i * VECTOR_BYTES, a.target_plane)

    return run


def plane_bytes(blocks: int, group: int) -> int:
    """Bytes between the planes of a group: an odd number of vectors, so that planes lie in different cache sets."""
    return (blocks * group | 1) * VECTOR_BYTES


def scratch_bytes(m: int, in_blocks: int, out_blocks: int, group: int) -> int:
    """Scratch memory of one thread: both sets of planes, and a tile of pixels twice."""
    planes = (m + 2) ** 2 * (plane_bytes(in_blocks, group) + plane_bytes(out_blocks, group))
    return planes + 2 * m * m * VECTOR_BYTES


@inline
def _place(a, item):
    """The image of a work item and its first tile."""
    tiles = a.tiles_x * a.tiles_y
    groups = (tiles + a.group - 1) // a.group
    return item // groups, min(item % groups * a.group, tiles - a.group)


@inline
def _row(a, source, y):
    """Address of an image row, or of zeros above and below the image."""
    return source + y * a.source_row if 0 <= y < a.in_height else a.zeros


@inline
def _copy(source, source_row, target, target_row, rows, columns):
    for i in range(rows):
        for j in range(columns):
            pixel = simd.load(source + i * source_row + j * VECTOR_BYTES)
            simd.store(target + i * target_row + j * VECTOR_BYTES, pixel)


@cache
def _input_phase(m: int) -> Kernel:
    """Transforms the input of work item `item` into the scratch memory of `thread`."""
    transform = made("winograd_transforms", "transform_input", m)

    @kernel(WINOGRAD, name=f"winograd_input_f32_{LANES}_{m}x{m}")
    def run(a, item, thread):
        image, first = _place(a, item)
        scratch = a.scratch + thread * a.scratch_size
        for block in range(a.in_blocks):
            for t in range(a.group):
                y, x = (first + t) // a.tiles_x * m - a.pad_top, (first + t) % a.tiles_x * m
                base = a.source + image * a.source_batch + block * a.source_block + x * VECTOR_BYTES
                target = scratch + (block * a.group + t) * VECTOR_BYTES
                if m == 4:
                    rows = (
                        _row(a, base, y), _row(a, base, y + 1), _row(a, base, y + 2),
                        _row(a, base, y + 3), _row(a, base, y + 4), _row(a, base, y + 5),
                    )  # fmt: skip
                else:
                    rows = (_row(a, base, y), _row(a, base, y + 1), _row(a, base, y + 2), _row(a, base, y + 3))
                transform(rows, target, a.in_plane)

    return run


@cache
def _product_phase(rows: int, columns: int) -> Kernel:
    """Multiplies the transformed input in the scratch memory of `thread` by the weights."""
    tile = made("register_tile", "make_tile", rows, columns, UNROLL, VECTOR_BYTES, False, UNROLL)

    @kernel(WINOGRAD, name=f"winograd_product_f32_{LANES}_{rows}x{columns}")
    def run(a, item, thread):
        planes_in = a.scratch + thread * a.scratch_size
        planes_out = planes_in + a.products * a.in_plane
        column_tiles = (a.out_blocks + columns - 1) // columns
        panel = a.in_blocks * LANES * columns * VECTOR_BYTES
        depth = a.group * VECTOR_BYTES
        for p in range(a.products):
            for c in range(column_tiles):
                block = min(c * columns, a.out_blocks - columns)
                weights = a.weights + (p * column_tiles + c) * panel
                for r in range(0, a.group, rows):
                    # The next panel: each of the first `columns` tiles asks for a part of it.
                    fetched = r // rows * a.in_blocks * LANES * LINE
                    fetching = fetched < panel
                    tile(
                        planes_in + p * a.in_plane + r * VECTOR_BYTES, 0, weights, 0,
                        (
                            a.in_blocks, 1, 1, LANES // UNROLL,
                            depth, 0, 0, LANES * columns * VECTOR_BYTES, 0,
                            weights + panel + fetched if fetching else weights, UNROLL * LINE if fetching else 0,
                        ),
                        (
                            planes_out + p * a.out_plane + block * depth + r * VECTOR_BYTES, depth, VECTOR_BYTES,
                            0, 0, 0, a.zeros, 0, LANES,
                        ),
                    )  # fmt: skip

    return run


@cache
def _output_phase(m: int) -> Kernel:
    """Transforms the products in the scratch memory of `thread` to the pixels of work item `item`."""
    transform = made("winograd_transforms", "transform_output", m)

    @kernel(WINOGRAD, name=f"winograd_output_f32_{LANES}_{m}x{m}")
    def run(a, item, thread):
        image, first = _place(a, item)
        products = a.scratch + thread * a.scratch_size + a.products * a.in_plane
        tile_row = m * VECTOR_BYTES
        corner = products + a.products * a.out_plane
        spare = corner + m * tile_row
        for block in range(a.out_blocks):
            target = a.target + image * a.target_batch + block * a.target_block
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            bias = a.bias + block * VECTOR_BYTES
            for t in range(a.group):
                y, x = (first + t) // a.tiles_x * m, (first + t) % a.tiles_x * m
                place = target + y * a.target_row + x * VECTOR_BYTES
                other = residual + y * a.residual_row + x * VECTOR_BYTES if a.residual != 0 else 0
                rows, columns = min(m, a.height - y), min(m, a.width - x)
                whole = rows == m and columns == m
                if not whole and other != 0:
                    _copy(other, a.residual_row, spare, tile_row, rows, columns)
                    other = spare
                transform(
                    products + (block * a.group + t) * VECTOR_BYTES, a.out_plane,
                    place if whole else corner, a.target_row if whole else tile_row,
                    other, a.residual_row if whole else tile_row, bias, a.limits,
                )  # fmt: skip
                if not whole:
                    _copy(corner, tile_row, place, a.target_row, rows, columns)

    return run


@kernel(WINOGRAD)
def winograd(a, thread, threads):
    """Runs the three phases for each group of this thread's share."""
    tiles = a.tiles_x * a.tiles_y
    items = a.batch * ((tiles + a.group - 1) // a.group)
    arguments = system.address_of(a)
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        system.call(a.input_phase, arguments, item, thread)
        system.call(a.product_phase, arguments, item, thread)
        system.call(a.output_phase, arguments, item, thread)


def phases(m: int, rows: int, columns: int) -> dict[str, Kernel]:
    """The kernels whose addresses go into the fields of these names, for output tiles of `m` x `m` pixels (2 or 4).

    `rows` x `columns` is the register tile: `group` is a multiple of `rows`, at most the number of tiles, and
    out_blocks >= columns.
    """
    return {
        "input_phase": _input_phase(m),
        "product_phase": _product_phase(rows, columns),
        "output_phase": _output_phase(m),
    }
