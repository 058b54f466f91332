"""Matrix products by Strassen's method: whether it pays, the sums of weights, and the steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import typical
from cpuruntime.ops.matmul import packed_bytes
from cpuruntime.ops.strassen import PRODUCTS, scratch_bytes, strassen, strassen_sums, sums_row_bytes
from cpuruntime.program.lowerings.packed_matrices import SumsPacking
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import with_limits
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import Grid, rank_tilings
from cpuruntime.records import record

# Below these extents the sums, the reading of 7/4 of the weights and the putting together cost what is saved. Measured
# on Zen 5.
FEWEST_ROWS, LEAST_INNER, FEWEST_COLUMNS = 48, 512, 512
# Products up to this size stay in the second-level cache beside the sums they are made of.
PRODUCT_BYTES = 512 * 1024
MOST_ROW_TILES = 32


@record
class StrassenTiling:
    """Tiles of rows x columns; `chunk` row tiles by `group` column tiles of each quarter are put together at a time."""

    rows: int
    columns: int
    chunk: int
    group: int


def strassen_pays(rows: int, inner: int, columns: int) -> bool:
    """Whether a [rows, inner] @ [inner, columns] product is faster by Strassen's method."""
    large = inner >= LEAST_INNER and columns >= FEWEST_COLUMNS
    return large and not inner % (2 * LANES) and not columns % (2 * LANES) and rows >= FEWEST_ROWS


def strassen_tiling(rows: int, inner: int, columns: int, threads: int) -> StrassenTiling:
    """The tiling of a product for which the method pays."""
    half, blocks = (rows + 1) // 2, columns // (2 * LANES)
    tile = rank_tilings(Grid(1, half, blocks, inner // 2, source_bytes=0), threads=1)[0].choice
    row_tiles, column_tiles = typical(-(-half // tile.rows)), -(-blocks // tile.columns)
    # Weights are read once for each chunk of rows, and the sums of a chunk once for each group of columns.
    chunk = -(-row_tiles // -(-row_tiles // MOST_ROW_TILES))
    groups = -(-column_tiles // max(1, PRODUCT_BYTES // scratch_bytes(tile.rows, tile.columns, chunk, 1)))
    while groups < column_tiles and groups * -(-row_tiles // chunk) % threads:
        groups += 1
    return StrassenTiling(tile.rows, tile.columns, chunk, -(-column_tiles // groups))


def emit_strassen(
    emitter: Emitter, tiling: StrassenTiling, weights: np.ndarray, rows: int, source: Address, activation: str,
    fields: dict[str, Any],
) -> None:  # fmt: skip
    """The two steps of source[rows, K] @ weights[K, N]; `fields` has target, residual, bias, limits and parameters."""
    inner, columns = weights.shape[0] // 2, weights.shape[1] // 2
    half, row_bytes = (rows + 1) // 2, sums_row_bytes(inner)
    sums = Address(emitter.scratch(PRODUCTS * half * row_bytes))
    unlike = Address(emitter.scratch(8 * half))
    emitter.emit(
        strassen_sums, "plain", source=source, source_row=8 * inner, target=sums, target_plane=half * row_bytes,
        target_row=row_bytes, unlike=unlike, rows=half, low=rows - half, inner=inner,
    )  # fmt: skip
    size = scratch_bytes(tiling.rows, tiling.columns, tiling.chunk, tiling.group)
    emitter.emit(
        strassen(tiling.rows, tiling.columns, activation), "plain", flops=8 * rows * inner * columns,
        notes=f"Strassen, tile {tiling.rows}x{tiling.columns}, chunk {tiling.chunk} by {tiling.group}",
        source=source, source_row=8 * inner, unlike=unlike, sums=sums, sums_plane=half * row_bytes, sums_row=row_bytes,
        weights=_pack_sums(emitter, weights, tiling.columns),
        weights_plane=packed_bytes(inner, columns, tiling.columns),
        zeros=emitter.constant(np.zeros(tiling.columns * LANES, np.float32)),
        rows=half, low=rows - half, inner=inner, blocks=columns // LANES, chunk=tiling.chunk, group=tiling.group,
        **emitter.thread_memory(size), **with_limits(emitter, fields),
    )  # fmt: skip


def _pack_sums(emitter: Emitter, weights: np.ndarray, tile_columns: int) -> Address:
    """The right sides of the seven products, each packed as for an ordinary one."""
    inner, columns = weights.shape[0] // 2, weights.shape[1] // 2
    size = packed_bytes(inner, columns, tile_columns)
    key = (emitter.weights.identity(weights), "strassen", tile_columns)
    return emitter.weights.packed(key, PRODUCTS * size, SumsPacking(inner, columns, tile_columns), weights)
