"""Which register tiles exist: shapes that keep every accumulator in a register, and no more than make a difference.

`rows` x `columns` accumulators, `columns` weights and a broadcast must fit. With 32 registers LLVM spills 14x2 and 7x4,
so products stay at 24 or below; "generic" has 16 and needs one more for each product, having no multiply-add; "neon"
multiplies by an element of a vector, so that each row takes a register more. A test compiles every shape listed here
and holds it at zero spills.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES, current

BY_ISA: dict[str, tuple[tuple[int, int], ...]] = {
    "avx512": (
        (8, 2), (7, 2), (8, 3), (7, 3), (6, 4), (5, 5), (4, 4), (4, 2), (2, 4), (2, 2), (1, 8), (1, 4), (1, 2),
        (14, 1), (12, 1), (7, 1), (4, 1), (2, 1), (1, 1),
    ),
    "neon": (
        (7, 2), (5, 3), (4, 3), (4, 2), (2, 4), (2, 2), (1, 8), (1, 4), (1, 2), (7, 1), (4, 1), (2, 1), (1, 1),
    ),
    "avx2": (
        (6, 2), (5, 2), (4, 3), (4, 2), (3, 3), (3, 2), (2, 5), (2, 4), (2, 2), (1, 8), (1, 4), (1, 2),
        (8, 1), (7, 1), (4, 1), (2, 1), (1, 1),
    ),
    "generic": (
        (3, 2), (2, 4), (2, 2), (1, 8), (1, 4), (1, 2), (7, 1), (4, 1), (2, 1), (1, 1),
    ),
}  # fmt: skip

# Tiles of Winograd's method beside these: more rows read fewer weights, and a map of few tiles takes what divides it.
_TALL = ((12, 2), (10, 2), (9, 2))
# Accumulators from which on LLVM spills some of them there on NEON.
_MOST_ON_NEON = 12

# Channels in a loop body of tiles that read blocks. With a whole block in a body each of its loads moves by the same
# distance from body to body, which processors prefetch: 1x1 layers of many channels gain a quarter on AVX2. On AVX-512,
# where such a body is long, it is not measured.
UNROLL = LANES if LANES <= 8 else 4

# Accumulators from which on multiply-adds do not wait for each other: a latency of 4 cycles, two in each.
BUSY = 8

# Rows of lane tiles: 14 and 7 divide the images of ImageNet's networks.
_LANE_ROWS = (14, 10, 8, 7, 4, 2, 1)
# Registers beside accumulators and weights. Without multiply-adds products take more of them.
_SPARE = {"avx512": 2, "neon": 2, "avx2": 2, "generic": 4}
_MOVES = 5  # more of them where inputs change lanes
# Inputs of a group from which on LLVM keeps too many constants of such moves in registers; the rows of tiles then.
_MANY_MOVED, _FEW_ROWS = 8, 10
_MOST_LANE_ROWS = {"avx512": 14, "neon": 14, "avx2": 10, "generic": 7}


def tile_shapes() -> tuple[tuple[int, int], ...]:
    """(rows, columns) of the tiles for the instruction set in use; among equally cheap ones the first is taken."""
    return BY_ISA[current().name]


def low_rows(rows: int, columns: int) -> int:
    """Rows of the lowest tile below `rows` x `columns` that is as fast a row; `rows` when there is none."""
    fast = (r for r, c in tile_shapes() if c == columns and r < rows and r * c >= BUSY)
    return min(fast, default=rows)


def pairs_columns(rows: int, columns: int) -> bool:
    """Whether products take two column tiles at a time, since multiply-adds of one wait for each other."""
    return rows * columns < BUSY and (rows, 2 * columns) in tile_shapes()


def split_rows(count: int, rows: int, low: int) -> tuple[int, int]:
    """How many tiles of `rows` rows, and then of `low` ones, compute `count` rows with the fewest computed twice."""
    tiles = -(-count // rows)
    lower = min(tiles, (tiles * rows - count) // (rows - low)) if low < rows else 0
    return tiles - lower, lower


def winograd_shapes() -> tuple[tuple[int, int], ...]:
    """(rows, columns) of the tiles for the products of Winograd's method."""
    if current().name == "neon":
        return tuple(shape for shape in tile_shapes() if shape[0] <= 4 and shape[0] * shape[1] <= _MOST_ON_NEON)
    return tile_shapes() + (_TALL if current().name == "avx512" else ())


def lane_rows(taps: int, moved: int = 0) -> tuple[int, ...]:
    """Rows of the lane tiles that slide over `taps` kernel columns, largest first: those that fit the registers.

    So many `moved` inputs of a group change to the lanes of its outputs.
    """
    isa = current()
    spare = _SPARE[isa.name] + (_MOVES if moved else 0)
    most = min(_MOST_LANE_ROWS[isa.name], isa.registers - taps - spare)
    if moved >= _MANY_MOVED:
        most = min(most, _FEW_ROWS)
    return tuple(rows for rows in _LANE_ROWS if rows <= most)
