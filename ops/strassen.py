"""Matrix products with a constant right side by Strassen's method: seven products of half the size instead of eight.

target[M, N] = source[M, K] @ weights[K, N] + bias + residual. With each matrix cut into four, the products are of sums
of quarters (V. Strassen, Gaussian elimination is not optimal, 1969):

    0: (A11 + A22) (B11 + B22)   1: (A21 + A22) B11   2: A11 (B12 - B22)   3: A22 (B21 - B11)
    4: (A11 + A12) B22   5: (A21 - A11) (B11 + B12)   6: (A12 - A22) (B21 + B22)
    C11 = 0 + 3 - 4 + 6   C12 = 2 + 4   C21 = 1 + 3   C22 = 0 - 1 + 2 + 5

The sums of weights are taken at compile time and those of the source by `strassen_sums`; `strassen` multiplies and puts
the products together on the way to the target. The halves of an odd number of rows share the middle one.

These sums mix two rows, so a row would get the other's NaN, or its rounding errors: a row of zeros, as padding has,
would not give zeros. Where rows are so unlike, eight products of the same weights keep them apart, for all rows:

    C11 = (A11 + A12) B11 + A12 (B21 - B11)   C12 = A11 (B12 - B22) + (A11 + A12) B22
    C21 = (A21 + A22) B11 + A22 (B21 - B11)   C22 = A21 (B12 - B22) + (A21 + A22) B22
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.functions.activations import ACTIVATIONS, unchanged

simd = lazy("cpuruntime.compiler.simd")

UNROLL = 4
LINES = 2  # of the next weights, asked for in each loop body
PRODUCTS = 7
UNLIKE = 4096.0  # so many times the other's sum of squares has a row that must not be mixed with it
INFINITE = float("inf")

# Rows of the source are `source_row` bytes apart and have 2 * inner floats; `rows` of them are in each half, and the
# lower half begins with row `low`. The sums lie [product][rows][sums_row bytes]. `unlike` has an int64 for each pair.
SUMS = record("source source_row target target_plane target_row unlike rows low inner")

# `blocks` vectors of columns are in each half; weights lie [product][column tile][inner][columns][LANES], column tiles
# as in `matmul`. `zeros` points at columns * LANES zeros, `limits` at the smallest and the largest result. scratch: one
# piece of scratch_size bytes for each thread.
ARGUMENTS = record(
    "source source_row unlike sums sums_plane sums_row weights weights_plane target target_row residual residual_row "
    "bias limits zeros rows low inner blocks chunk group scratch scratch_size", alpha="f4", beta="f4",
)  # fmt: skip


def sums_row_bytes(inner: int) -> int:
    """Bytes between the rows of the sums of a half of `inner` floats: rows of a tile lie in different cache sets."""
    return (inner // LANES | 1) * VECTOR_BYTES


def scratch_bytes(rows: int, columns: int, chunk: int, group: int) -> int:
    """Scratch memory of one thread for `chunk` by `group` tiles of `rows` x `columns`."""
    return PRODUCTS * chunk * group * rows * columns * VECTOR_BYTES


@kernel(SUMS)
def strassen_sums(a, thread, threads):
    """The left sides of the products; `inner` is a multiple of LANES."""
    for row in range(a.rows * thread // threads, a.rows * (thread + 1) // threads):
        upper = a.source + row * a.source_row
        lower = upper + a.low * a.source_row
        target = a.target + row * a.target_row
        squares = simd.broadcast(0.0), simd.broadcast(0.0)
        for i in range(0, a.inner * 4, VECTOR_BYTES):
            a11, a12 = simd.load(upper + i), simd.load(upper + a.inner * 4 + i)
            a21, a22 = simd.load(lower + i), simd.load(lower + a.inner * 4 + i)
            place = target + i
            simd.store(place, a11 + a22)
            simd.store(place + a.target_plane, a21 + a22)
            simd.store(place + 2 * a.target_plane, a11)
            simd.store(place + 3 * a.target_plane, a22)
            simd.store(place + 4 * a.target_plane, a11 + a12)
            simd.store(place + 5 * a.target_plane, a21 - a11)
            simd.store(place + 6 * a.target_plane, a12 - a22)
            squares = (
                simd.fma(a11, a11, simd.fma(a12, a12, squares[0])),
                simd.fma(a21, a21, simd.fma(a22, a22, squares[1])),
            )
        above, below = simd.sum_lanes(squares[0]), simd.sum_lanes(squares[1])
        alike = above <= UNLIKE * below and below <= UNLIKE * above and above + below < INFINITE
        simd.store_i64(a.unlike + 8 * row, 0 if alike else 1)


@inline
def _any_unlike(a):
    found = 0
    for row in range(a.rows):
        found |= simd.load_i64(a.unlike + 8 * row)
    return found != 0


@inline
def _left_side(a, product, apart):
    """Address and bytes between rows of what is multiplied."""
    if not apart:
        return a.sums + product * a.sums_plane, a.sums_row
    if product % 4 == 0 or product % 4 == 3:
        return a.sums + (4 if product < 4 else 1) * a.sums_plane, a.sums_row
    quarter = a.source + product // 4 * a.low * a.source_row + product % 2 * a.inner * 4
    return quarter, a.source_row


@cache
@factory
def strassen(rows: int, columns: int, activation: str = "") -> Kernel:
    """The product by tiles of `rows` x `columns`; halves have at least as many rows and vectors of columns.

    Each of the products is computed for `chunk` row tiles by `group` column tiles, then these are put together, so that
    the sums of the source are read once for a group of columns. `activation` as in `matmul`.
    """
    tile = made("cpuruntime.ops.tiles.register_tile", "make_tile", rows, columns, UNROLL, None, False, LINES)
    finish = _finish(rows, columns, activation)
    tile_bytes = rows * columns * VECTOR_BYTES
    name = f"strassen_f32_{LANES}_{rows}x{columns}" + (f"_{activation}" if activation else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, columns))
    def run(a, thread, threads):
        column_tiles = (a.blocks + columns - 1) // columns
        row_tiles = (a.rows + rows - 1) // rows
        chunks, groups = (row_tiles + a.chunk - 1) // a.chunk, (column_tiles + a.group - 1) // a.group
        items = chunks * groups
        products = a.scratch + thread * a.scratch_size
        plane, bodies = a.group * a.chunk * tile_bytes, a.inner // UNROLL
        panel, fetched = a.inner * columns * VECTOR_BYTES, bodies * LINES * LINE
        apart = _any_unlike(a)
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            begin, first = item // groups * a.chunk, item % groups * a.group
            end, last = min(row_tiles, begin + a.chunk), min(column_tiles, first + a.group)
            for p in range(8 if apart else PRODUCTS):
                left, left_row = _left_side(a, p, apart)
                side, product = (1 + p // 2 % 2 + p % 2 * 2, p // 2) if apart else (p, p)
                for column_tile in range(first, last):
                    weights = a.weights + side * a.weights_plane + column_tile * panel
                    ahead = weights + panel
                    if column_tile + 1 == last:
                        ahead = a.weights + (side + 1) * a.weights_plane + first * panel
                    for t in range(begin, end):
                        part = t - begin
                        fetching = part * fetched < panel
                        row = min(t * rows, a.rows - rows)
                        place = products + product * plane + ((column_tile - first) * a.chunk + part) * tile_bytes
                        tile(
                            left + row * left_row, left_row, weights, 0,
                            (
                                1, 1, 1, bodies, 0, 0, 0, 0, 0,
                                ahead + part * fetched if fetching else weights, LINES * LINE if fetching else 0,
                            ),
                            (
                                place, VECTOR_BYTES, columns * VECTOR_BYTES,
                                place if apart and p % 2 == 1 else 0, VECTOR_BYTES, columns * VECTOR_BYTES,
                                a.zeros, 0, LANES,
                            ),
                        )  # fmt: skip
            for column_tile in range(first, last):
                block = min(column_tile * columns, a.blocks - columns)
                for t in range(begin, end):
                    place = products + ((column_tile - first) * a.chunk + t - begin) * tile_bytes
                    if not apart:
                        _quarters(place, plane, rows * columns)
                    finish(a, place, plane, min(t * rows, a.rows - rows), block * VECTOR_BYTES)

    return run


@inline
def _quarters(at, plane, vectors):
    """Puts the products of a tile together: C11, C12, C21, C22 in place of the first four."""
    for i in range(at, at + vectors * VECTOR_BYTES, VECTOR_BYTES):
        m0, m1, m2 = simd.load(i), simd.load(i + plane), simd.load(i + 2 * plane)
        m3, m4, m5 = simd.load(i + 3 * plane), simd.load(i + 4 * plane), simd.load(i + 5 * plane)
        simd.store(i, m0 + m3 - m4 + simd.load(i + 6 * plane))
        simd.store(i + plane, m2 + m4)
        simd.store(i + 2 * plane, m1 + m3)
        simd.store(i + 3 * plane, m0 - m1 + m2 + m5)


def _finish(rows: int, columns: int, activation: str) -> Inline:
    function = ACTIVATIONS[activation].function if activation else unchanged

    @inline
    def finish(a, products, plane, row, at):
        """Writes the four tiles whose upper left one begins in `row`, `at` bytes from the left."""
        alpha, beta = simd.broadcast(a.alpha), simd.broadcast(a.beta)
        low, high = simd.broadcast(simd.load_f32(a.limits)), simd.broadcast(simd.load_f32(a.limits + 4))
        for quarter in range(4):
            left = at + quarter % 2 * a.blocks * VECTOR_BYTES
            for r in range(rows):
                y = row + r + quarter // 2 * a.low
                # The middle one of an odd number of rows is the upper half's.
                if quarter >= 2 and y < a.rows:
                    continue
                for c in range(0, columns * VECTOR_BYTES, VECTOR_BYTES):
                    value = simd.load(products + quarter * plane + r * columns * VECTOR_BYTES + c)
                    value = value + simd.load(a.bias + left + c)
                    if a.residual != 0:
                        value = value + simd.load(a.residual + y * a.residual_row + left + c)
                    value = simd.minimum(high, simd.maximum(low, value))
                    simd.store(a.target + y * a.target_row + left + c, function(value, alpha, beta))

    return finish
