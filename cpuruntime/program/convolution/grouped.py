"""Convolutions in groups of any number of channels: tiles of one group each, and their weights."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent
from cpuruntime.ops.grouped_convolution import GROUP_TILE, grouped_convolution
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.plan.candidate import Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.packing import COPIES, copy_into
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings

UNROLL = 4


def emit_grouped(emitter: Emitter, g: Geometry, weights: np.ndarray, fields: dict[str, Any]) -> None:
    """A convolution in groups; `fields` has the tensors, bias, limits and the sizes of the image."""
    inputs = g.of_group[0]
    vectors = min(last - first for first, last in map(g.output_blocks, range(g.group)))
    step, unroll = g.stride_width * VECTOR_BYTES, gcd(inputs, UNROLL)

    def emit(emitter: Emitter, tiling: Tiling) -> None:
        table, packed = _pack(emitter, g, weights, tiling.columns, fields["source_block"])
        part = _part_tiles(g, tiling.columns)
        chunk = _chunk(g, tiling, fields["height"], fields["width"], -(-len(table) // part), emitter.threads)
        emitter.emit(
            tiling.fit(fields["width"], lambda rows: grouped_convolution(rows, tiling.columns, unroll, step)),
            "blocked", flops=g.flops, notes=str(tiling), **fields, **g.window_fields(), weights=packed,
            tiles=emitter.rows(table, GROUP_TILE), tile_count=len(table), part_tiles=part,
            source_column=g.dilation_width * VECTOR_BYTES, chunk=chunk,
        )  # fmt: skip

    source_bytes = g.blocks[0] * fields["source_block"] // g.group
    grid = Grid(fields["height"], fields["width"], vectors, inputs * g.taps, source_bytes)
    query = Query(("grouped_convolution",), g, grid, "residual" in fields)
    emitter.emit_fastest(query, rank_tilings(grid, emitter.threads), emit)


def _places(g: Geometry, columns: int) -> list[tuple[int, int]]:
    """The group and the first output block of each tile."""
    blocks = [g.output_blocks(group) for group in range(g.group)]
    return [(i, first + at) for i, (first, last) in enumerate(blocks) for at in tile_starts(last - first, columns)]


def _part_tiles(g: Geometry, columns: int) -> int:
    """The tiles of as many groups as share vectors with each other; 1 where none does."""
    outputs = g.of_group[1]
    together = LANES // gcd(LANES, outputs)
    return 1 if together == 1 else sum(group < together for group, _ in _places(g, columns))


def _chunk(g: Geometry, tiling: Tiling, height: Extent, width: Extent, parts: int, threads: int) -> Extent:
    """Pixel tiles worked on before the next part: all of them where more than two groups are in a vector."""
    outputs = g.of_group[1]
    if outputs % LANES == 0:
        return tiling.chunk
    if outputs < LANES:
        return height * width
    tiles, together = height * -(-width // tiling.rows), threads // gcd(threads, parts)
    return -(-tiles // (together * -(-tiles // (together * tiling.chunk))))


def _pack(
    emitter: Emitter, g: Geometry, weights: np.ndarray, columns: int, block_stride: Extent
) -> tuple[list[tuple[Extent, ...]], Address]:
    """The rows of the table of tiles, and the weights [tile][input block][height][width][channel][columns][LANES]."""
    inputs, outputs = g.of_group
    places = _places(g, columns)
    size = inputs * g.taps * columns * VECTOR_BYTES
    table: list[tuple[Extent, ...]] = []
    for index, (group, block) in enumerate(places):
        begin, low = group * inputs, group * outputs - block * LANES
        high = low + outputs - (columns - 1) * LANES if group < g.group - 1 else LANES
        first = begin % LANES
        source = begin // LANES * block_stride
        table.append((source, first, first + inputs, index * size, block, max(low, 0), min(high, LANES)))

    def fill(memory: np.ndarray) -> None:
        plain = np.asarray(weights)
        for (group, block), panel in zip(places, memory.view(np.float32).reshape(len(places), -1)):
            _fill(g, plain, panel, columns, group, block)

    key = (emitter.weights.identity(weights), "groups", columns, g.group)
    return table, emitter.weights.pack(key, len(places) * size, fill, COPIES)


def _fill(g: Geometry, weights: np.ndarray, panel: np.ndarray, columns: int, group: int, block: int) -> None:
    """Writes the weights of the outputs of `group` that lie in the tile from `block`, inputs block by block."""
    inputs, outputs = g.of_group
    kernel = g.taps
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
