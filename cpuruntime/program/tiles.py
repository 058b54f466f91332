"""The choice of register tile and of the order in which a product's tiles are worked on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cpuruntime.ops.isa import VECTOR_BYTES
from cpuruntime.ops.tile_shapes import tile_shapes

# Half of a second-level cache of 1 MiB: what one operand may take so that the other passes through the rest.
CACHE_SHARE = 512 * 1024
# Half of a first-level cache of 32 KiB: weights of a column tile up to this size stay there while the rows go by.
FIRST_LEVEL = 16 * 1024
# Cycles until the sum of a multiply-add can be added to.
LATENCY = 4
# Cycles a tile costs beside its multiply-adds (start, epilogue, loop control); measured on Zen 4 and 5.
TILE_OVERHEAD = 40


# A tile that is as good within this factor is as good: the first one listed is taken, so that a model has few kernels.
TOLERANCE = 1.04


@dataclass(frozen=True)
class Tiling:
    """A `rows` x `columns` tile; `chunk` row tiles are worked on before the next column tile is taken."""

    rows: int
    columns: int
    chunk: int


@cache
def choose_tiling(lines: int, pixels: int, blocks: int, inner: int, source_bytes: int, threads: int) -> Tiling:
    """The cheapest tile for `lines` rows of `pixels` pixels by `blocks` output blocks over `inner` products each.

    `source_bytes` is the size of the source that all column tiles read. Cycles are estimated as multiply-adds or loads,
    whichever is more, with what overlapping tiles compute twice.
    """
    shapes = [s for s in tile_shapes() if s[0] <= pixels and s[1] <= blocks]

    def cycles(shape: tuple[int, int]) -> float:
        rows, columns = shape
        tiles = lines * -(-pixels // rows) * -(-blocks // columns)
        # Two loads for two multiply-adds; a vector of weights takes about three cycles from the second-level cache.
        loads = rows + columns if inner * columns * VECTOR_BYTES <= FIRST_LEVEL else max(rows, 2 * columns) + columns
        body = max(rows * columns, loads, LATENCY)
        return tiles * (inner * body + TILE_OVERHEAD + 3 * rows * columns)

    limit = TOLERANCE * min(map(cycles, shapes))
    rows, columns = next(shape for shape in shapes if cycles(shape) <= limit)
    tiles = lines * -(-pixels // rows)
    return Tiling(rows, columns, _chunk(tiles, columns, blocks, inner, source_bytes, threads))


def _chunk(tiles: int, columns: int, blocks: int, inner: int, source_bytes: int, threads: int) -> int:
    """All tiles when the source stays in the cache anyway, else as many as keep their part of it there.

    With several threads the grid of chunks and column tiles is made fine enough to share evenly.
    """
    column_tiles = -(-blocks // columns)
    weights = inner * blocks * VECTOR_BYTES
    chunks = 1
    if source_bytes > CACHE_SHARE and weights < source_bytes and column_tiles > 1:
        chunks = -(-source_bytes // (CACHE_SHARE // 2))
    if threads > 1:
        while chunks * column_tiles % threads and chunks * column_tiles < 16 * threads and chunks < tiles:
            chunks += 1
    return -(-tiles // min(chunks, tiles))


