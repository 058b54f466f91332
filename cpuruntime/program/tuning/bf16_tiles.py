"""The choice of register tile for products of bf16 numbers, and of the pixels that share a panel."""

from __future__ import annotations

from dataclasses import replace

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Size
from cpuruntime.host.caches import caches
from cpuruntime.ops.bf16_product import SIZE
from cpuruntime.ops.tiles.integer_shapes import AMX_SHAPES, SIDE
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.tuning.integer_tiles import SECOND, UNTRIED
from cpuruntime.program.tuning.tiles import TOLERANCE, Grid, Tiling, rank_tilings
from cpuruntime.records import record

LOWER = {14: 7, 12: 7}
"""In place of rows for which LLVM spills some of the sums."""
FAVOURITE = (4, 4)
"""The tile that is preferred where it computes hardly more than another one: it reads least, measured on Zen 4."""


@record
class Bf16Tiling(Tiling):
    """The same, also of tile registers."""

    by_tiles: bool = False

    def __str__(self) -> str:
        return f"amx {super().__str__()}{UNTRIED}" if self.by_tiles else super().__str__()


def rank_bf16_tilings(grid: Grid, threads: int) -> tuple[Candidate[Bf16Tiling], ...]:
    """The tiles for a grid whose `inner` counts pairs of numbers, cheapest first; panels fit the second-level cache."""
    found: dict[str, Candidate[Bf16Tiling]] = {}
    ranked = rank_tilings(grid, threads)
    most = TOLERANCE * ranked[0].cost

    def is_second(each: Candidate[Tiling]) -> bool:
        return (each.choice.rows, each.choice.columns) != FAVOURITE or each.cost > most

    for each in sorted(ranked, key=is_second):
        rows = LOWER.get(each.choice.rows, each.choice.rows)
        tiling = Bf16Tiling(rows, each.choice.columns, each.choice.chunk)
        tiling = replace(tiling, chunk=_chunk(grid, tiling, threads))
        found.setdefault(str(tiling), Candidate(tiling, str(tiling), each.cost))
    return tuple(found.values())


def rank_amx_tilings(grid: Grid, threads: int) -> tuple[Candidate[Bf16Tiling], ...]:
    """The tiling by tile registers that computes least, if one fits: only a measurement can prefer it to the others.

    Its cost counts the cycles of products, or those of loads where they are more, for 16 pairs of each tile.
    """
    if isinstance(grid.lines, Size) or isinstance(grid.pixels, Size):
        return ()
    found = []
    for rows, columns in AMX_SHAPES:
        if rows <= grid.pixels and columns <= grid.blocks:
            down, across = rows // SIDE, columns * LANES // SIDE
            tiles = int(grid.lines) * -(-int(grid.pixels) // rows)
            body = max(16 * down * across, 8 * (down + across))
            cost = tiles * -(-int(grid.blocks) // columns) * int(grid.inner) / SIDE * body
            tiling = Bf16Tiling(rows, columns, tiles, by_tiles=True)
            tiling = replace(tiling, chunk=_chunk(grid, tiling, threads))
            found.append(Candidate(tiling, str(tiling), cost))
    least = SECOND * rank_bf16_tilings(grid, threads)[0].cost
    best = min(found, key=lambda candidate: candidate.cost, default=None)
    return () if best is None else (replace(best, cost=max(best.cost, least)),)


def _chunk(grid: Grid, tiling: Tiling, threads: int) -> int:
    """Pixel tiles of a panel: as many as is said, as far as they fit; all where they are not known."""
    most = max(1, caches().second // (2 * tiling.rows * int(grid.inner) * 2 * SIZE))
    if isinstance(grid.lines, Size) or isinstance(grid.pixels, Size):
        return most
    tiles = int(grid.lines) * -(-int(grid.pixels) // tiling.rows)
    chunks = max(-(-tiles // most), -(-tiles // int(tiling.chunk)))
    if chunks > 1 and chunks * -(-int(grid.blocks) // tiling.columns) % threads:
        chunks = -(-chunks // threads) * threads
    return -(-tiles // chunks)
