"""The choice of register tile for products of bf16 numbers, and of the pixels that share a panel."""

from __future__ import annotations

from dataclasses import replace

from cpuruntime.graph import Size
from cpuruntime.host.caches import caches
from cpuruntime.ops.bf16_product import SIZE
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.tuning.tiles import TOLERANCE, Grid, Tiling, rank_tilings

LOWER = {14: 7, 12: 7}
"""In place of rows for which LLVM spills some of the sums."""
FAVOURITE = (4, 4)
"""The tile that is preferred where it computes hardly more than another one: it reads least, measured on Zen 4."""


def rank_bf16_tilings(grid: Grid, threads: int) -> tuple[Candidate[Tiling], ...]:
    """The tiles for a grid whose `inner` counts pairs of numbers, cheapest first; panels fit the second-level cache."""
    found: dict[str, Candidate[Tiling]] = {}
    ranked = rank_tilings(grid, threads)
    most = TOLERANCE * ranked[0].cost

    def is_second(each: Candidate[Tiling]) -> bool:
        return (each.choice.rows, each.choice.columns) != FAVOURITE or each.cost > most

    for each in sorted(ranked, key=is_second):
        tiling = replace(each.choice, rows=LOWER.get(each.choice.rows, each.choice.rows))
        tiling = replace(tiling, chunk=_chunk(grid, tiling, threads))
        found.setdefault(str(tiling), Candidate(tiling, str(tiling), each.cost))
    return tuple(found.values())


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
