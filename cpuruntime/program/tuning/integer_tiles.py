"""The choice of integer tile, and of the order in which its work is done.

Costs are in cycles of a Zen 3 core. All choices give the same bits.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent, Size, typical
from cpuruntime.host.caches import caches
from cpuruntime.ops.tiles.integer_shapes import AMX, CHANNELS, channels_of, integer_shapes
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.records import record

VECTOR_COST = {"w16": 0.72, "ubs": 1.0, "vnni": 0.5, "vnni_both": 0.5, "amx": 0.0625, "amx_both": 0.0625}
"""Cycles of the products of one pair of vectors."""
WINOGRAD = "winograd"
"""In place of a kind: Winograd's method, whose products take `w16` tiles."""
PIXEL_COST, SUM_COST = 60, 60
"""Cycles of its transforms: of the input of a tile for two vectors of channels, of its output for one."""
FROM_FAR, MOST_TOGETHER = 8, 24
"""Bytes of its weights that arrive in a cycle; tiles that are worked on together even where caches are small."""
LOAD_COST, TILE_COST, STORE_COST = 0.15, 12, 5
"""Cycles of a vector of weights or a broadcast, of a tile, and of a vector of results."""
MOST = 6
"""Candidates to be measured."""
SECOND = 1.01
"""What the estimate of the second is, at least, as a multiple of the first one's."""
UNTRIED = ", never tested on a processor with AMX"
MANY = 64
"""Pixels for which tiles are chosen where they are not known."""


@record
class IntegerTiling:
    """A `rows` x `columns` tile of a kind; `chunk` pixels share a panel, `parts` divide its column tiles."""

    kind: str
    rows: int
    columns: int
    chunk: Extent
    parts: int

    def __str__(self) -> str:
        text = f"{self.kind} {self.rows}x{self.columns}, chunk {self.chunk}" + f"/{self.parts}" * (self.parts > 1)
        return text + UNTRIED * (self.kind in AMX)


@record
class IntegerGrid:
    """Work for integer tiles: `pixels`, `lines` of equal length, over `inner` channels times taps to `blocks` blocks.

    A line takes `line_bytes` bytes of 8-bit activations in a panel. `images` are batches times groups. `by_channels`:
    threads divide the blocks where there are enough.
    """

    images: Extent
    lines: Extent
    pixels: Extent
    blocks: int
    inner: int
    line_bytes: Extent
    by_channels: bool = False


def rank_integer_tilings(
    grid: IntegerGrid, extra: dict[str, float], threads: int
) -> tuple[Candidate[IntegerTiling], ...]:
    """Tiles for a grid, cheapest first; `extra` are the kinds that there are weights for, and their extra steps."""
    pixels = typical(grid.pixels) if not isinstance(grid.pixels, Size) else MANY
    found = []
    for kind, share in extra.items():
        if kind == WINOGRAD:
            found += _by_winograd(grid, threads)
            continue
        for rows, columns in integer_shapes(kind):
            if columns > grid.blocks:
                continue
            tiles = -(-pixels // rows) * -(-grid.blocks // columns)
            groups = grid.inner / channels_of(kind)
            loads = rows / 32 + columns / 2 if kind in AMX else LOAD_COST * (rows + columns)  # 8 cycles for 1 KiB
            body = rows * columns * VECTOR_COST[kind] + loads
            cost = tiles * (groups * body * (1 + share) + TILE_COST + STORE_COST * rows * columns)
            chunk, parts = _order(grid, kind, rows, -(-grid.blocks // columns), threads)
            tiling = IntegerTiling(kind, rows, columns, chunk, parts)
            found.append(Candidate(tiling, str(tiling), cost))
    found = sorted(_untried_second(found), key=lambda candidate: candidate.cost)
    first = {candidate.choice.kind: candidate for candidate in reversed(found)}  # of each kind the cheapest
    others = [candidate for candidate in found if candidate not in first.values()]
    return tuple(sorted([*first.values(), *others[: MOST - len(first)]], key=lambda candidate: candidate.cost))


def _untried_second(found: list[Candidate[IntegerTiling]]) -> list[Candidate[IntegerTiling]]:
    """The candidates with the cheapest of AMX, which no processor has run yet, behind the others': only a measurement
    can prefer it."""
    tried = [candidate for candidate in found if candidate.choice.kind not in AMX]
    by_tiles = min((c for c in found if c not in tried), key=lambda candidate: candidate.cost, default=None)
    if by_tiles is None or not tried:
        return found
    least = min(candidate.cost for candidate in tried)
    return [*tried, replace(by_tiles, cost=max(by_tiles.cost, SECOND * least))]


def _by_winograd(grid: IntegerGrid, threads: int) -> list[Candidate[IntegerTiling]]:
    """Tilings of Winograd's method; chunks are of tiles of 2x2 pixels."""
    lines, width = int(grid.lines), int(grid.pixels) // int(grid.lines)
    tiles_x = -(-width // 2)
    tiles, channels = -(-lines // 2) * tiles_x, grid.inner // 9
    found = []
    for rows, columns in integer_shapes("w16"):
        if columns != 2 or columns > grid.blocks:
            continue
        column_tiles = -(-grid.blocks // columns)
        most = max(MOST_TOGETHER, caches().second // 2 // (16 * 2 * channels + 16 * columns * VECTOR_BYTES))
        chunks = -(-tiles // most)
        images, parts = typical(grid.images), 1
        if images * chunks % threads:
            if tiles < 4 * rows * threads:
                parts = min(column_tiles, threads // gcd(images * chunks, threads))
            else:
                chunks = -(-chunks // threads) * threads
        together = -(-tiles // chunks)
        chunk = -(-together // rows) * rows
        body = channels / 2 * (rows * columns * VECTOR_COST["w16"] + LOAD_COST * (rows + columns))
        cost = 16 * -(-tiles // rows) * column_tiles * (body + TILE_COST + rows * columns)
        cost += chunks * 16 * 2 * channels * grid.blocks * LANES / FROM_FAR
        cost += tiles * (channels / (2 * LANES) * PIXEL_COST + grid.blocks * SUM_COST)
        tiling = IntegerTiling(WINOGRAD, rows, columns, min(chunk, tiles), parts)
        found.append(Candidate(tiling, str(tiling), cost))
    return found


def _order(grid: IntegerGrid, kind: str, rows: int, column_tiles: int, threads: int) -> tuple[Extent, int]:
    """The pixels of a chunk, whose panel stays in the second-level cache, and the parts of its column tiles."""
    size = 2 if kind == "w16" else 1
    budget = caches().second // (4 * size)
    if isinstance(grid.pixels, Size) or isinstance(grid.line_bytes, Size):
        return 8 * rows, threads if column_tiles >= threads else 1
    pixels, width = int(grid.pixels), int(grid.pixels) // int(grid.lines)
    if grid.lines > 1:
        chunks = -(-grid.lines // max(1, budget // grid.line_bytes))
        unit = width
    else:
        chunks = -(-grid.line_bytes // budget)
        unit = 1
    images = typical(grid.images)
    parts = 1
    if grid.by_channels and column_tiles % threads == 0:
        parts = threads
    elif images * chunks % threads and images * chunks < 8 * threads:
        weights = grid.inner * grid.blocks * CHANNELS
        if (weights > grid.line_bytes * grid.lines and column_tiles >= 2 * threads) or pixels < 2 * rows * threads:
            parts = min(column_tiles, threads // gcd(images * chunks, threads))
        else:
            while images * chunks % threads and chunks < pixels // unit:
                chunks += 1
    chunk = -(-(pixels // unit) // chunks) * unit
    if grid.lines == 1:
        chunk = min(pixels, -(-chunk // rows) * rows)
    return chunk, parts
