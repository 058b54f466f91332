"""Convolutions in groups of any number of channels: tiles of one group each, and their weights."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.grouped_convolution import GROUP_TILE, grouped_convolution
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.plan.candidate import Comparison, Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.packing import copy_into
from cpuruntime.program.plan.storage import Address, Blocked
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings

UNROLL = 4


def emit_grouped(
    emitter: Emitter, g: Geometry, weights: np.ndarray, source: Blocked, target: Blocked, fields: dict[str, Any],
    method: Comparison,
) -> None:  # fmt: skip
    """A convolution in groups; `fields` has residual, bias, limits, the window and the sizes of the image."""
    inputs = g.in_channels // g.group
    vectors = min(last - first for first, last in map(g.output_blocks, range(g.group)))
    step = g.stride_width * VECTOR_BYTES

    def emit(emitter: Emitter, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        table, packed = _pack(emitter, g, weights, tiling.columns, source.block_stride)
        emitter.emit(
            grouped_convolution(tiling.rows, tiling.columns, gcd(inputs, UNROLL), step), "blocked", flops=g.flops,
            notes=str(tiling), comparisons=comparisons,
            **(source.fields("source") | target.fields("target") | fields), weights=packed,
            tiles=emitter.constant(table), tile_count=len(table),
            batch=g.batch, source_column=g.dilation_width * VECTOR_BYTES, chunk=tiling.chunk,
        )  # fmt: skip

    inner = inputs * g.kernel_height * g.kernel_width
    source_bytes = source.blocks * source.block_stride // g.group
    grid = Grid(fields["height"], fields["width"], vectors, inner, source_bytes)
    query = Query(("grouped_convolution",), g, grid, "residual" in fields)
    tiling = emitter.choose(query, rank_tilings(grid, emitter.threads), emit)
    emit(emitter, tiling.choice, (method, tiling.comparison))


def _tiles(g: Geometry, columns: int) -> Iterator[tuple[int, int]]:
    """(group, first output block) of every column tile."""
    for group in range(g.group):
        first, last = g.output_blocks(group)
        for start in tile_starts(last - first, columns):
            yield group, first + start


def _pack(
    emitter: Emitter, g: Geometry, weights: np.ndarray, columns: int, block_stride: int
) -> tuple[np.ndarray, Address]:
    """The table of tiles, and the weights [tile][input block][height][width][channel][columns][LANES]."""
    inputs, outputs = g.in_channels // g.group, g.channels // g.group
    kernel = g.kernel_height * g.kernel_width
    places = list(_tiles(g, columns))
    size = inputs * kernel * columns * VECTOR_BYTES
    table = np.zeros(len(places), GROUP_TILE)
    for index, (row, (group, block)) in enumerate(zip(table, places)):
        begin, low = group * inputs, group * outputs - block * LANES
        high = low + outputs - (columns - 1) * LANES if group < g.group - 1 else LANES
        row["source"], row["begin"] = begin // LANES * block_stride, begin % LANES
        row["end"] = row["begin"] + inputs
        row["weights"], row["block"] = index * size, block
        row["low"], row["high"] = max(low, 0), min(high, LANES)

    def fill(memory: np.ndarray) -> None:
        for (group, block), panel in zip(places, memory.view(np.float32).reshape(len(places), -1)):
            _fill(g, weights, panel, columns, group, block)

    key = (emitter.weights.identity(weights), "groups", columns, g.group)
    return table, emitter.weights.pack(key, len(places) * size, fill)


def _fill(g: Geometry, weights: np.ndarray, panel: np.ndarray, columns: int, group: int, block: int) -> None:
    """Writes the weights of the outputs of `group` that lie in the tile from `block`, inputs block by block."""
    inputs, outputs = g.in_channels // g.group, g.channels // g.group
    kernel = g.kernel_height * g.kernel_width
    begin, end = max(block * LANES, group * outputs), min((block + columns) * LANES, (group + 1) * outputs)
    dense = np.zeros((columns * LANES, inputs, kernel), np.float32)
    dense[begin - block * LANES : end - block * LANES] = weights[begin:end].reshape(-1, inputs, kernel)
    by_output = dense.reshape(columns, LANES, inputs, kernel)
    first, taken = group * inputs % LANES, 0
    while taken < inputs:
        count = min(LANES - (first + taken) % LANES, inputs - taken)
        size = kernel * columns * LANES
        part = panel[taken * size : (taken + count) * size].reshape(kernel, count, columns, LANES)
        copy_into(part, by_output[:, :, taken : taken + count].transpose(3, 2, 0, 1))
        taken += count
