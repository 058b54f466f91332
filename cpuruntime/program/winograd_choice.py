"""Whether a convolution runs by Winograd's method, and with which tiles; an estimate in cycles decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cpuruntime.ops.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.tile_shapes import tile_shapes
from cpuruntime.ops.winograd import scratch_bytes
from cpuruntime.program.tiles import TOLERANCE

# What a thread's scratch may take: a second-level cache of 1 MiB and a share of the third.
SCRATCH_LIMIT = 2 * 2**20
# Cycles to transform one vector of a tile's input and of its output, by m; bytes of weights that arrive in a cycle;
# what products and direct convolution take beyond their multiply-adds. Fitted to measurements on Zen 4.
INPUT_CYCLES = {2: 70, 4: 170}
OUTPUT_CYCLES = {2: 60, 4: 150}
WEIGHT_BYTES_PER_CYCLE = 8
PRODUCT_OVERHEAD = 1.08
DIRECT_OVERHEAD = 1.05


@dataclass(frozen=True)
class WinogradTiling:
    """Output tiles of m x m pixels, `group` of them at a time, multiplied by register tiles of rows x columns."""

    m: int
    rows: int
    columns: int
    group: int
    tiles_x: int
    tiles_y: int

    @property
    def products(self) -> int:
        return (self.m + 2) ** 2


@cache
def choose_winograd(
    batch: int, in_blocks: int, out_blocks: int, height: int, width: int, threads: int
) -> WinogradTiling | None:
    """The fastest tiling for a 3 x 3 convolution of stride 1, None when direct convolution is expected to be faster.

    The method, m included, is chosen for one thread: with another one results would differ in the last bits, and they
    must not depend on the number of threads.
    """
    cycles, tiling = _fastest((4, 2), batch, in_blocks, out_blocks, height, width, 1)
    if cycles >= batch * height * width * 9 * in_blocks * LANES * out_blocks * DIRECT_OVERHEAD:
        return None
    return _fastest((tiling.m,), batch, in_blocks, out_blocks, height, width, threads)[1]


def _fastest(
    methods: tuple[int, ...], batch: int, in_blocks: int, out_blocks: int, height: int, width: int, threads: int
) -> tuple[float, WinogradTiling]:
    """The tiling with the fewest cycles, or the first listed that is as good, and the number."""
    best: list[tuple[float, WinogradTiling]] = []
    for m in methods:
        tiles_x, tiles_y = -(-width // m), -(-height // m)
        for rows, columns in tile_shapes():
            if columns > min(out_blocks, 4) or rows > tiles_x * tiles_y:
                continue
            tilings = [
                WinogradTiling(m, rows, columns, group, tiles_x, tiles_y)
                for group in _groups(tiles_x * tiles_y, rows)
                if group == rows or scratch_bytes(m, in_blocks, out_blocks, group) <= SCRATCH_LIMIT
            ]
            rated = [(_cycles(tiling, batch, in_blocks, out_blocks, threads), tiling) for tiling in tilings]
            best.append(min(rated, key=lambda pair: pair[0]))
    cycles, fastest = min(best, key=lambda pair: pair[0])
    return next(pair for pair in best if pair[1].m == fastest.m and pair[0] <= TOLERANCE * cycles)


def _groups(tiles: int, rows: int) -> list[int]:
    """Sizes of groups that share the tiles about evenly: multiples of `rows`, at most all tiles."""
    shares = {-(-tiles // pieces) for pieces in range(1, 1 + tiles // rows)}
    groups = {rows} | {-(-share // rows) * rows for share in shares}
    return sorted((group for group in groups if group <= tiles), reverse=True)


def _cycles(tiling: WinogradTiling, batch: int, in_blocks: int, out_blocks: int, threads: int) -> float:
    tiles = tiling.tiles_x * tiling.tiles_y
    groups = batch * -(-tiles // tiling.group)
    columns = -(-out_blocks // tiling.columns) * tiling.columns
    row_tiles = tiling.group // tiling.rows
    body = max(tiling.rows * tiling.columns, tiling.rows / 2 + 2 * tiling.columns)
    products = tiling.products * row_tiles * columns / tiling.columns * (in_blocks * LANES * body + 40)
    weights = tiling.products * in_blocks * LANES * columns * VECTOR_BYTES / WEIGHT_BYTES_PER_CYCLE
    transforms = in_blocks * INPUT_CYCLES[tiling.m] + out_blocks * OUTPUT_CYCLES[tiling.m]
    each = max(products * PRODUCT_OVERHEAD, weights) + tiling.group * transforms
    return -(-groups // threads) * each
