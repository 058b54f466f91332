"""The choice of register tile and of the order in which a product's tiles are worked on.

Costs are in slots: the time of one multiply-add of a vector when nothing else limits them, half a cycle on Zen 5. The
constants are fitted to 4500 timings of the convolutions and products of twelve models on Zen 5, with weights coming
from memory (`python bench/kernels.py --choices` compares estimates and timings); the first choice is 1 % slower than
the fastest on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.graph import Extent, Size, typical
from cpuruntime.host.caches import caches
from cpuruntime.ops.tiles.tile_shapes import tile_shapes
from cpuruntime.program.plan.candidate import Candidate

# Slots until the sum of a multiply-add can be added to.
LATENCY = 8
# Slots of a vector of weights beside its multiply-adds; of a tile's start and end, in all and for each accumulator.
WEIGHTS_COST, TILE_COST, STORE_COST = 0.15, 4, 2
# Bytes of weights that arrive in a slot from memory.
FROM_MEMORY = 4.4
# A tile that is as good within this factor is as good: the first one listed is taken, so that a model has few kernels.
TOLERANCE = 1.04
# Rows and blocks of a grid from which on the same tiles are chosen, those for so many rows; below each number has its
# own.
ROW_CLASSES, COLUMN_CLASSES, MANY = (16, 8, 4), (8, 4, 2), 64


@dataclass(frozen=True)
class Tiling:
    """A `rows` x `columns` tile; `chunk` row tiles are worked on before the next column tile is taken."""

    rows: int
    columns: int
    chunk: int

    def __str__(self) -> str:
        return f"tile {self.rows}x{self.columns}, chunk {self.chunk}"


@dataclass(frozen=True)
class Grid:
    """Work for register tiles: `lines` rows of `pixels` pixels by `blocks` output blocks over `inner` products each.

    `source_bytes` is the size of the source that all column tiles read.
    """

    lines: int
    pixels: int
    blocks: int
    inner: int
    source_bytes: int


def rank_tilings(grid: Grid, threads: int) -> tuple[Candidate[Tiling], ...]:
    """Tiles for a grid, cheapest first. Where pixels or blocks are a `Size` they fit all grids of at least as many.

    A tile is listed with a few chunks, alike in cost: what should suit the caches, half of that, one for each thread.
    """
    rows, columns = _class_of(grid.pixels, ROW_CLASSES), _class_of(grid.blocks, COLUMN_CLASSES)
    pixels = max(typical(grid.pixels), MANY if isinstance(grid.pixels, Size) and rows == ROW_CLASSES[0] else 0)
    lines, blocks, inner, source_bytes = map(typical, (grid.lines, grid.blocks, grid.inner, grid.source_bytes))
    return rank_fitting(Grid(lines, pixels, blocks, inner, source_bytes), threads, (rows, columns))


def _class_of(count: Extent, classes: Sequence[int]) -> int:
    """The first class that a `Size` is not below, which becomes a guard; else the number itself."""
    fitting = (least for least in classes if count >= least) if isinstance(count, Size) else ()
    return next((least for least in fitting), None) or int(count)


@lru_cache(4096)
def rank_fitting(grid: Grid, threads: int, most: tuple[int, int]) -> tuple[Candidate[Tiling], ...]:
    """Tiles for a grid, of at most so many rows and columns."""
    shapes = [s for s in tile_shapes() if s[0] <= most[0] and s[1] <= most[1]]
    reading = grid.inner * grid.blocks * VECTOR_BYTES / FROM_MEMORY

    def cost(shape: tuple[int, int]) -> float:
        rows, columns = shape
        tiles = grid.lines * -(-grid.pixels // rows) * -(-grid.blocks // columns)
        body = max(rows * columns, rows + columns, LATENCY) + WEIGHTS_COST * columns
        return tiles * (grid.inner * body + TILE_COST + STORE_COST * rows * columns) + reading

    limit = TOLERANCE * min(map(cost, shapes))
    favourite = next(shape for shape in shapes if cost(shape) <= limit)
    found = []
    for rows, columns in sorted(shapes, key=lambda shape: (shape != favourite, cost(shape))):
        tiles = grid.lines * -(-grid.pixels // rows)
        chunk = _chunk(grid, tiles, columns, threads)
        for size in dict.fromkeys((chunk, -(-chunk // 2), -(-tiles // min(threads, tiles)))):
            tiling = Tiling(rows, columns, size)
            found.append(Candidate(tiling, str(tiling), cost((rows, columns))))
    return tuple(found)


def _chunk(grid: Grid, tiles: int, columns: int, threads: int) -> int:
    """All tiles when the source stays in the second-level cache anyway, else as many as keep their part of it there.

    With several threads the grid of chunks and column tiles is made fine enough to share evenly.
    """
    share = caches().second // 2
    column_tiles = -(-grid.blocks // columns)
    weights = grid.inner * grid.blocks * VECTOR_BYTES
    chunks = 1
    if grid.source_bytes > share and weights < grid.source_bytes and column_tiles > 1:
        chunks = -(-grid.source_bytes // (share // 2))
    if threads > 1:
        while chunks * column_tiles % threads and chunks * column_tiles < 16 * threads and chunks < tiles:
            chunks += 1
    return -(-tiles // min(chunks, tiles))
