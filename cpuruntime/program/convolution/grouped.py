"""Convolutions in groups of any number of channels: tiles of one group each, and their weights."""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent
from cpuruntime.ops.grouped_convolution import grouped_convolution
from cpuruntime.ops.tiles.tile_shapes import UNROLL
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.plan.candidate import Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.packing import COPIES, copy_into
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings


def emit_grouped(emitter: Emitter, g: Geometry, weights: np.ndarray, fields: dict[str, Any]) -> None:
    """A convolution in groups; `fields` has the tensors, bias, limits and the sizes of the image."""
    inputs = g.of_group[0]
    vectors = min(last - first for first, last in map(g.output_blocks, range(g.group)))
    step, unroll = g.stride_width * VECTOR_BYTES, gcd(inputs, UNROLL)

    def emit(emitter: Emitter, tiling: Tiling) -> None:
        bodies = _bodies(g, unroll, fields["source_block"], fields["source_row"])
        table, packed = _pack(emitter, g, weights, tiling.columns, fields["source_block"], list(bodies))
        part = _part_tiles(g, tiling.columns)
        chunk = _chunk(g, tiling, fields["height"], fields["width"], -(-len(table) // part), emitter.threads)
        emitter.emit(
            tiling.fit(fields["width"], lambda rows: grouped_convolution(rows, tiling.columns, unroll, step)),
            "blocked", flops=g.flops, notes=str(tiling), **fields, kernel_height=g.kernel_height,
            stride_height=g.stride_height, dilation_height=g.dilation_height, pad_top=g.pad_top, weights=packed,
            tiles=emitter.rows(table), tile_count=len(table), part_tiles=part, chunk=chunk,
            bodies=emitter.rows([*bodies.values()]),
            row_bodies=inputs * g.kernel_width // unroll,
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


def _bodies(g: Geometry, unroll: int, block: Extent, row: Extent) -> dict[int, list[Extent]]:
    """The distances of all loop bodies, by the lane of its block that a group begins at."""
    inputs = g.of_group[0]
    found: dict[int, list[Extent]] = {}
    for first in dict.fromkeys(group * inputs % LANES for group in range(g.group)):
        ends = first, *range(LANES, first + inputs, LANES), first + inputs
        found[first] = [
            y * g.dilation_height * row + begin // LANES * block + x * g.dilation_width * VECTOR_BYTES + at % LANES * 4
            for y in range(g.kernel_height) for begin, end in pairwise(ends) for x in range(g.kernel_width)
            for at in range(begin, end, unroll)
        ]  # fmt: skip
    return found


def _pack(
    emitter: Emitter, g: Geometry, weights: np.ndarray, columns: int, block_stride: Extent, kinds: list[int]
) -> tuple[list[tuple[Extent, ...]], Address]:
    """The rows of the table of tiles, and the weights [tile][height][input block][width][channel][columns][LANES].

    `kinds` are the lanes that groups begin at, in the order of the table of loop bodies.
    """
    inputs, outputs = g.of_group
    places = _places(g, columns)
    size = inputs * g.taps * columns * VECTOR_BYTES
    row_bytes = 8 * g.taps * inputs // gcd(inputs, UNROLL)
    table: list[tuple[Extent, ...]] = []
    for index, (group, block) in enumerate(places):
        begin, low = group * inputs, group * outputs - block * LANES
        high = low + outputs - (columns - 1) * LANES if group < g.group - 1 else LANES
        source, bodies = begin // LANES * block_stride, kinds.index(begin % LANES) * row_bytes
        table.append((source, bodies, index * size, block, max(low, 0), min(high, LANES)))

    def fill(memory: np.ndarray) -> None:
        plain = np.asarray(weights)
        for (group, block), panel in zip(places, memory.view(np.float32).reshape(len(places), -1)):
            _fill(g, plain, panel, columns, group, block)

    key = (emitter.weights.identity(weights), "groups", columns, g.group)
    return table, emitter.weights.pack(key, len(places) * size, fill, COPIES)


def _fill(g: Geometry, weights: np.ndarray, panel: np.ndarray, columns: int, group: int, block: int) -> None:
    """Writes the weights of the outputs of `group` that lie in the tile from `block`, inputs block by block."""
    inputs, outputs = g.of_group
    height, width = g.kernel_height, g.kernel_width
    begin, end = max(block * LANES, group * outputs), min((block + columns) * LANES, (group + 1) * outputs)
    dense = np.zeros((columns * LANES, inputs, height, width), np.float32)
    dense[begin - block * LANES : end - block * LANES] = weights[begin:end].reshape(-1, inputs, height, width)
    by_output, rows = dense.reshape(columns, LANES, inputs, height, width), panel.reshape(height, -1)
    first, taken, size = group * inputs % LANES, 0, width * columns * LANES
    while taken < inputs:
        count = min(LANES - (first + taken) % LANES, inputs - taken)
        part = rows[:, taken * size : (taken + count) * size].reshape(height, width, count, columns, LANES)
        copy_into(part, by_output[:, :, taken : taken + count].transpose(3, 4, 2, 0, 1))
        taken += count
