"""The choice of register tile and of the order in which a product's tiles are worked on.

Costs are in slots, for which see `core`, with weights coming from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import gcd

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Extent, Size, at_least, typical
from cpuruntime.ops.tiles.tile_shapes import low_rows, pairs_columns, split_rows, tile_shapes
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.plan.step import KernelChoice
from cpuruntime.program.tuning.core import core
from cpuruntime.records import record

# Slots of a tile's start and end, in all and for each accumulator.
TILE_COST, STORE_COST = 4, 2
# Bytes of weights that arrive in a slot from memory.
FROM_MEMORY = 4.4
# A tile that is as good within this factor is as good: the first one listed is taken, so that a model has few kernels.
TOLERANCE = 1.04
# Blocks of a grid from which on the same tiles are chosen; below each number has its own.
COLUMN_CLASSES = (8, 4, 2)
# Lines and pixels for which tiles are chosen where they are not known; the share of a tile's rows that the next one
# for narrower images has at most.
MANY, SPARSE = 64, 0.7


@record
class Tiling:
    """A `rows` x `columns` tile; `chunk` row tiles are worked on before the next column tile is taken."""

    rows: int
    columns: int
    chunk: Extent

    def __str__(self) -> str:
        return f"tile {self.rows}x{self.columns}, chunk {self.chunk}"

    def fit(self, pixels: Extent, make: Callable[[int], Kernel]) -> Kernel | KernelChoice:
        """The kernel that `make` gives for rows of the tile, see `fit_rows`."""
        return fit_rows(pixels, self.rows, [rows for rows, columns in tile_shapes() if columns == self.columns], make)


@record
class Grid:
    """Work for register tiles: `lines` rows of `pixels` pixels by `blocks` output blocks over `inner` products each.

    `source_bytes` is the size of the source that all column tiles read. `pairs`: the kernel takes two column tiles at a
    time where multiply-adds of one wait for each other. `by_rows`: threads divide the pixels, not the blocks.
    """

    lines: Extent
    pixels: Extent
    blocks: Extent
    inner: Extent
    source_bytes: Extent
    pairs: bool = False
    by_rows: bool = False


def rank_tilings(grid: Grid, threads: int) -> tuple[Candidate[Tiling], ...]:
    """Tiles for a grid, cheapest first. Where blocks are a `Size` they fit all grids of at least as many.

    A tile is listed with a few chunks, alike in cost: what should suit the caches, half of that, one for each thread.
    Where pixels are a `Size` there is one tiling, the same for all images; see `fit_rows`.
    """
    columns = _class_of(grid.blocks, COLUMN_CLASSES)
    if not isinstance(grid.pixels, Size):
        sizes = map(typical, (grid.lines, grid.pixels, grid.blocks, grid.inner, grid.source_bytes))
        known = Grid(*sizes, grid.pairs, grid.by_rows)
        return rank_fitting(known, threads, (known.pixels, columns))
    lines = MANY if isinstance(grid.lines, Size) else grid.lines
    known = Grid(lines, MANY, typical(grid.blocks), typical(grid.inner), typical(grid.source_bytes), grid.pairs)
    narrow = {shape[1] for shape in tile_shapes() if shape[0] == 1}
    best = next(one for one in rank_fitting(known, threads, (MANY, columns)) if one.choice.columns in narrow)
    rows, columns = best.choice.rows, best.choice.columns
    tiling = Tiling(rows, columns, _open_chunk(grid, rows, -(-known.blocks // columns), threads))
    return (Candidate(tiling, str(tiling), best.cost),)


def fit_rows(pixels: Extent, rows: int, options: Iterable[int], make: Callable[[int], Kernel]) -> Kernel | KernelChoice:
    """The kernel of a tile of `rows` rows; where pixels are a `Size`, with a few of less rows for narrower images.

    `options` are the rows that there are tiles of, 1 among them.
    """
    if not isinstance(pixels, Size):
        return make(rows)
    wanted = [rows]
    for option in sorted((option for option in options if option < rows), reverse=True):
        if option <= SPARSE * wanted[-1]:
            wanted.append(option)
    fitting, reached = [wanted.pop()], []
    for option in reversed(wanted):
        answer = at_least(pixels, option)
        if isinstance(answer, Size):
            fitting.append(option)
            reached.append(answer)
        elif answer:
            fitting = [option]
    kernels = tuple(map(make, fitting))
    return KernelChoice(kernels, tuple(reached)) if reached else kernels[0]


def _class_of(count: Extent, classes: Sequence[int]) -> int:
    """The first class that a `Size` is not below, which becomes a guard; else the number itself."""
    fitting = (least for least in classes if count >= least) if isinstance(count, Size) else ()
    return next((least for least in fitting), None) or int(count)


@lru_cache(4096)
def rank_fitting(grid: Grid, threads: int, most: tuple[int, int]) -> tuple[Candidate[Tiling], ...]:
    """Tiles for a grid, of at most so many rows and columns."""
    shapes = [s for s in tile_shapes() if s[0] <= most[0] and s[1] <= most[1]]
    reading = grid.inner * grid.blocks * VECTOR_BYTES / FROM_MEMORY

    here = core()

    def tile_cost(rows: int, columns: int) -> float:
        body = max(rows * columns, here.load * (rows + columns), here.latency) + here.weights * columns
        return grid.inner * body + TILE_COST + STORE_COST * rows * columns

    def cost(shape: tuple[int, int]) -> float:
        rows, columns = shape
        low = low_rows(rows, columns)
        high, lower = split_rows(grid.pixels, rows, low)
        column_tiles = -(-grid.blocks // columns)
        if grid.pairs and column_tiles > 1 and pairs_columns(rows, columns):
            return grid.lines * high * column_tiles / 2 * tile_cost(rows, 2 * columns) + reading / here.two_streams
        line = high * tile_cost(rows, columns) + lower * tile_cost(low, columns)
        return grid.lines * column_tiles * line + reading

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
    share = core().caches.second // 2
    column_tiles = -(-grid.blocks // columns)
    weights = grid.inner * grid.blocks * VECTOR_BYTES
    chunks = 1
    if grid.source_bytes > share and weights < grid.source_bytes and column_tiles > 1:
        chunks = -(-grid.source_bytes // (share // 2))
    if grid.by_rows:
        chunks = -(-chunks // threads) * threads
    elif threads > 1:
        while chunks * column_tiles % threads and chunks * column_tiles < 16 * threads and chunks < tiles:
            chunks += 1
    return -(-tiles // min(chunks, tiles))


def _open_chunk(grid: Grid, rows: int, column_tiles: int, threads: int) -> Extent:
    """As `_chunk`, of a grid whose pixels are a `Size`: the pieces grow with the source."""
    tiles = grid.lines * -(-grid.pixels // rows)
    chunks: Extent = threads // gcd(column_tiles, threads)
    if column_tiles > 1:
        weights = typical(grid.inner) * typical(grid.blocks) * VECTOR_BYTES
        chunks *= 1 + grid.source_bytes // max(core().caches.second // 4, weights)
    return -(-tiles // chunks)
