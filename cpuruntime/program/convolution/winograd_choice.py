"""Whether a convolution runs by Winograd's method, and with which tiles; an estimate in slots decides, see `core`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from math import gcd, inf, prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent, Size, typical
from cpuruntime.ops.tiles.tile_shapes import winograd_shapes
from cpuruntime.ops.winograd import scratch_bytes
from cpuruntime.ops.winograd_methods import Algorithm, Method
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.tuning.core import core
from cpuruntime.records import record

FEW_GROUPS = 40
# Groups listed for each register tile.
GROUPS = 3

# The other figures are fitted to measurements on Zen 5. Bytes that arrive during a multiply-add: from memory, which two
# cores share, and from the third-level cache; the delay of products by arriving weights, as a share of their arrival.
MEMORY_BYTES, THIRD_LEVEL_BYTES = 2.8, 11.0
ARRIVAL_SHARE = 0.1
# A vector read or written by a transform, of a scratch up to so many second-level caches and beyond; the first tiles of
# a block, whose pixels were not prefetched.
NEAR_VECTOR, NEAR_SCRATCH, FAR_VECTOR = 5.0, 2, 7.5
BLOCK_OVERHEAD = 500.0
# A register tile beside its multiply-adds: start, epilogue, loop control.
TILE_OVERHEAD = 40.0
PRODUCT_OVERHEAD = 1.03
DIRECT_OVERHEAD = 1.05
# More weights and less accuracy have to pay.
WORTH_IT = 0.95

# The elements of a model's inputs from which on it is large, and for which a method and its tiles are chosen where they
# are open: three planes of 64, 320 and 1280 pixels squared. Arbitrary.
LARGE, FEW_ELEMENTS, MANY_ELEMENTS, MOST_ELEMENTS = 50_000, 3 * 64**2, 3 * 320**2, 3 * 1280**2

# A tiling that is as good within this factor is as good: the first one listed is taken, so that kernels are few.
TOLERANCE = 1.02

# Outputs along one axis, by (taps, stride) of the kernel; larger ones are faster or lose too many digits.
OUTPUTS = {(3, 1): (4, 3, 2), (5, 1): (2,), (7, 1): (3,), (3, 2): (3, 2), (5, 2): (2,)}
# The same where transformed operands are rounded to bf16: the error is 1.4 times that of direct computation.
ROUNDED_OUTPUTS = {(3, 1): (2,), (3, 2): (2,)}


@record
class WinogradSizes:
    """A convolution: `parts` of in_blocks and out_blocks that do not mix; kernel and strides are (down, across)."""

    batch: Extent
    parts: int
    in_blocks: int
    out_blocks: int
    height: Extent
    width: Extent
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, g: Geometry) -> WinogradSizes:
        """Those of a convolution that falls into parts of whole vectors."""
        in_blocks, out_blocks = (blocks // g.parts for blocks in g.blocks)
        kernel, strides = (g.kernel_height, g.kernel_width), (g.stride_height, g.stride_width)
        return cls(g.batch, g.parts, in_blocks, out_blocks, g.height, g.width, kernel, strides)

    def of_class(self) -> WinogradSizes:
        """Those that a method is chosen for: these, or where they are open, those in a model of few or many elements.

        Which of both becomes a guard.
        """
        scope = next((n.scope for n in (self.batch, self.height, self.width) if isinstance(n, Size)), None)
        return self if scope is None else self.scaled(MANY_ELEMENTS if scope.volume >= LARGE else FEW_ELEMENTS)

    def scaled(self, elements: int) -> WinogradSizes:
        """About those of one square image in a model whose inputs have so many elements, as far as these are open."""
        axes = [axis for axis in ("batch", "height", "width") if isinstance(getattr(self, axis), Size)]
        sizes = [getattr(self, axis) for axis in axes]
        pixels = prod(map(typical, sizes)) * elements / max(1, typical(sizes[0].scope.volume))
        spatial = len(axes) - ("batch" in axes)
        extent = max(1, round(pixels ** (1 / max(1, spatial))))
        return replace(self, **{axis: 1 if spatial and axis == "batch" else extent for axis in axes})


@record
class WinogradTiling:
    """Tiles of a method, `group` of them at a time, multiplied by register tiles of rows x columns."""

    method: Method
    rows: int
    columns: int
    group: Extent
    tiles_x: Extent
    tiles_y: Extent

    def __str__(self) -> str:
        return f"{self.method}, tile {self.rows}x{self.columns}, group {self.group}"


def fit_winograd(sizes: WinogradSizes, method: Method, threads: int) -> tuple[Candidate[WinogradTiling], ...]:
    """The tilings of a method, the cheapest first; one where sizes are open.

    That is for large images; its group is a `Size`: it shares all tiles evenly, and has fewer than rows in small ones.
    """
    if not any(isinstance(number, Size) for number in (sizes.batch, sizes.height, sizes.width)):
        return rank_winograd(sizes, method, threads)
    narrow = {columns for rows, columns in winograd_shapes() if rows == 1}
    ranked = rank_winograd(sizes.scaled(MOST_ELEMENTS), method, threads)
    best = next(one for one in ranked if one.choice.columns in narrow)
    tiles_y, tiles_x = -(-sizes.height // method.vertical.outputs), -(-sizes.width // method.horizontal.outputs)
    tiles, together = sizes.batch * tiles_y * tiles_x, threads // gcd(sizes.parts, threads)
    group = -(-tiles // (together * -(-tiles // (together * best.choice.group))))
    return (replace(best, choice=replace(best.choice, group=group, tiles_x=tiles_x, tiles_y=tiles_y)),)


@lru_cache(4096)
def rank_methods(sizes: WinogradSizes, rounds: bool = False) -> tuple[Candidate[Method | None], ...]:
    """The methods of a convolution on one thread, cheapest first; None is direct convolution.

    Those that round are among them where it may be rounded.
    """
    found: list[Candidate[Method | None]] = [Candidate(None, "direct", WORTH_IT * direct_cost(sizes))]
    rounding = methods(sizes.kernel, sizes.strides, True) if rounds else []
    for method in [*methods(sizes.kernel, sizes.strides), *rounding]:
        found.append(Candidate(method, str(method), _ranked(sizes, method, 1)[0][0]))
    return tuple(sorted(found, key=lambda one: one.cost))


@lru_cache(4096)
def rank_winograd(sizes: WinogradSizes, method: Method, threads: int) -> tuple[Candidate[WinogradTiling], ...]:
    """The tilings of a method, each register tile with its best groups; the cheapest first."""
    tiles_y, tiles_x = -(-sizes.height // method.vertical.outputs), -(-sizes.width // method.horizontal.outputs)
    found = []
    for cost, *tile in _ranked(sizes, method, threads):
        tiling = WinogradTiling(method, *tile, tiles_x, tiles_y)
        found.append(Candidate(tiling, str(tiling), cost))
    return tuple(found)


@lru_cache(4096)
def _ranked(sizes: WinogradSizes, method: Method, threads: int) -> list[tuple[float, int, int, int]]:
    """(cost, rows, columns, group) of the tilings that `rank_winograd` gives, in its order."""
    tiles_y, tiles_x = -(-sizes.height // method.vertical.outputs), -(-sizes.width // method.horizontal.outputs)
    tiles = sizes.batch * tiles_y * tiles_x
    shapes = [(rows, columns) for rows, columns in winograd_shapes() if columns <= min(sizes.out_blocks, 4)]
    options = [_groups(tiles, rows) for rows, _ in shapes]
    counts, groups = list(map(len, options)), np.concatenate(options)
    shape = np.repeat(np.arange(len(shapes)), counts)
    rows, columns = np.array(shapes)[shape].T
    costs, scratch = _costs(sizes, method, tiles, rows, columns, groups, threads)
    costs[(groups > rows) & (scratch > core().scratch)] = inf
    order = np.lexsort((costs, shape))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    best = order[(place < GROUPS) & (costs[order] < inf)]
    found = list(zip(*(column[best].tolist() for column in (costs, rows, columns, groups))))
    limit = TOLERANCE * min(found)[0]
    favourite = next(one for one in found if one[0] <= limit)
    return sorted(found, key=lambda one: (one is not favourite, one[0]))


@cache
def methods(kernel: tuple[int, int], strides: tuple[int, int], rounds: bool = False) -> list[Method]:
    """The methods for a kernel: along an axis of one tap every pixel stands for itself."""
    outputs = ROUNDED_OUTPUTS if rounds else OUTPUTS
    options = [[1] if axis == (1, 1) else outputs.get(axis, ()) for axis in zip(kernel, strides)]
    vertical, horizontal = ([Algorithm(m, *axis) for m in sizes] for sizes, axis in zip(options, zip(kernel, strides)))
    pairs = [(v, h) for v in vertical for h in horizontal if v.outputs == h.outputs or 1 in (v.taps, h.taps)]
    found = [Method(*pair, rounds) for pair in pairs]
    return [method for method in found if method.products < method.multiplications]


def direct_cost(sizes: WinogradSizes) -> float:
    """The estimate for direct convolution."""
    pixels = sizes.batch * sizes.height * sizes.width
    taps = sizes.kernel[0] * sizes.kernel[1]
    products = pixels * taps * sizes.parts * sizes.in_blocks * LANES * sizes.out_blocks
    return float(_while(products * DIRECT_OVERHEAD, products / pixels * VECTOR_BYTES / MEMORY_BYTES))


@lru_cache(4096)
def _groups(tiles: int, rows: int) -> np.ndarray:
    """Sizes of groups: a few register tiles, or what shares all tiles evenly among few groups."""
    shares = {-(-tiles // pieces) for pieces in range(1, FEW_GROUPS + 1)}
    whole = {-(-share // rows) * rows for share in shares}
    few = {rows * turns for turns in (1, 2, 3, 4, 6)}
    return np.array(sorted((group for group in shares | whole | few if rows <= group <= tiles), reverse=True), int)


def _costs(
    sizes: WinogradSizes, method: Method, all_tiles: int, rows: np.ndarray, columns: np.ndarray, group: np.ndarray,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The estimates of tilings, and their bytes of scratch memory."""
    here = core()
    in_channels = sizes.in_blocks * LANES // (1 + method.rounds)  # or pairs of them
    groups = -(-all_tiles // group)
    column_tiles = -(-sizes.out_blocks // columns)
    # A load takes a multiply-add; a vector of weights that the first-level cache does not keep takes four of them, and
    # a quarter beside them.
    near = in_channels * columns * VECTOR_BYTES <= here.first_level
    loads = np.maximum(rows + columns, columns * np.where(near, 1, 4))
    body = np.maximum(np.maximum(rows * columns, loads), here.latency) + np.where(near, 0, columns / 4)
    tiles = method.products * -(-group // rows) * column_tiles
    products = tiles * (in_channels * body * PRODUCT_OVERHEAD + TILE_OVERHEAD)
    weights = method.products * in_channels * column_tiles * columns * VECTOR_BYTES
    scratch = scratch_bytes(method, sizes.in_blocks, sizes.out_blocks, group)
    vectors = sizes.in_blocks * (method.vertical.inputs * method.horizontal.inputs + method.products)
    vectors += sizes.out_blocks * (method.products + method.outputs)
    transforms = group * vectors * np.where(scratch <= NEAR_SCRATCH * here.caches.second, NEAR_VECTOR, FAR_VECTOR)
    transforms += (sizes.in_blocks + sizes.out_blocks) * BLOCK_OVERHEAD
    # Weights come from memory once; the groups after the first find them nearer.
    far = weights / np.where(weights * sizes.parts <= here.third_level, THIRD_LEVEL_BYTES, MEMORY_BYTES)
    mine = -(-groups * sizes.parts // threads)
    loads = np.minimum(mine, sizes.parts)
    first = _while(products, weights / MEMORY_BYTES)
    others = np.where(weights + scratch <= here.second_level, products, _while(products, far))
    return loads * first + (mine - loads) * others + mine * transforms, scratch


def _while(products: Any, arrival: Any) -> Any:
    """The time of products while their weights arrive."""
    return np.maximum(products + ARRIVAL_SHARE * arrival, arrival)
