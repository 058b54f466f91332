"""Transposed convolutions: the phases of their outputs, each an ordinary convolution by part of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product
from math import gcd

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent, Node
from cpuruntime.ops.transposed_convolution import transposed_convolution
from cpuruntime.program.convolution.geometry import DOMAIN, Geometry
from cpuruntime.program.convolution.panels import Channels, fill_panel, tile_starts
from cpuruntime.program.plan.elementwise_steps import apply_activation
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, limits, whole_vectors
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.packing import COPIES
from cpuruntime.program.plan.storage import Address, Blocked
from cpuruntime.program.tuning.tiles import Grid, rank_tilings
from cpuruntime.records import record


@record
class Phase:
    """Along one axis: output pixels `first`, `first` + stride, ... (`count` of them) and the elements they see.

    `elements` of the kernel are in the order of the source pixels they meet; the first of them meets source pixel
    `origin` for the first output pixel. Each next output pixel sees what lies one further.
    """

    first: int
    count: int
    elements: list[int]
    origin: int


def phases(extent: int, kernel: int, stride: int, dilation: int, pad: int) -> list[Phase]:
    """The phases of an output axis of `extent` pixels; element e and source pixel i meet at i * stride + e * dilation -
    pad. Source pixels of successive elements are dilation / gcd(stride, dilation) apart."""
    found = []
    for first in range(min(stride, extent)):
        elements = [e for e in range(kernel) if (first + pad - e * dilation) % stride == 0][::-1]
        origin = (first + pad - elements[0] * dilation) // stride if elements else 0
        found.append(Phase(first, -(-(extent - first) // stride), elements, origin))
    return found


class TransposedGeometry(Geometry):
    """The sizes of a transposed convolution, and its phases."""

    @cached_property
    def rows(self) -> list[Phase]:
        return phases(self.height, self.kernel_height, self.stride_height, self.dilation_height, self.pad_top)

    @cached_property
    def columns(self) -> list[Phase]:
        return phases(self.width, self.kernel_width, self.stride_width, self.dilation_width, self.pad_left)

    @property
    def reach(self) -> tuple[int, int]:
        """How far apart the source pixels of successive elements of a phase are."""
        axes = (self.stride_height, self.dilation_height), (self.stride_width, self.dilation_width)
        down, across = (dilation // gcd(stride, dilation) for stride, dilation in axes)
        return down, across

    @property
    def halo(self) -> tuple[int, int]:
        """Pixels read to the left and right of the image."""
        seen = [p for p in self.columns if p.elements]
        ends = [p.origin + p.count - 1 + (len(p.elements) - 1) * self.reach[1] for p in seen]
        left = max((-p.origin for p in seen), default=0)
        return max(0, left), max(0, max(ends, default=0) - self.in_width + 1)

    def pairs(self) -> Iterator[tuple[Phase, Phase]]:
        """All phases of both axes."""
        return product(self.rows, self.columns)

    def input_blocks(self, start: int, columns: int) -> tuple[int, int]:
        """The input blocks [first, last) of the groups in `columns` output blocks from `start` on."""
        inputs, outputs = self.of_group
        first, last = start * LANES, min(self.channels, (start + columns) * LANES) - 1
        return first // outputs * inputs // LANES, -(-(last // outputs + 1) * inputs // LANES)

    @property
    def flops(self) -> int:
        elements = sum(r.count * c.count * len(r.elements) * len(c.elements) for r, c in self.pairs())
        return 2 * self.batch * self.channels * self.of_group[0] * elements


@lowering(
    "ConvTranspose", domain=DOMAIN, layout=Layout.BLOCKED, halo=lambda node, _: TransposedGeometry.of(node).halo
)
def lower_transposed_convolution(emitter: Emitter, node: Node) -> None:
    """Emits a transposed convolution, and its activation when the kernel cannot apply it."""
    g = TransposedGeometry.of(node)
    bias, residual = node.inputs[2:]
    source = emitter.blocked(node.require(0))
    fields = {} if residual is None else emitter.blocked(residual).fields("residual")
    target = emitter.new_blocked(node.outputs[0])
    height, width = (max(p.count for p in axis) for axis in (g.rows, g.columns))
    places = [g.input_blocks(block, 1) for block in range(target.blocks)]
    inner = max(last - first for first, last in places) * LANES * -(-g.taps // (len(g.rows) * len(g.columns)))
    source_bytes = source.blocks * source.block_stride // g.group
    grid = Grid(height, min(p.count for p in g.columns), target.blocks, inner, source_bytes)
    tiling = rank_tilings(grid, emitter.threads)[0].choice
    table, weights = _pack(emitter, g, node.require(1).data, tiling.columns, source)
    emitter.emit(
        tiling.fit(grid.pixels, lambda rows: transposed_convolution(rows, tiling.columns)), "blocked", flops=g.flops,
        notes=f"{len(g.rows) * len(g.columns)} phases, {tiling}",
        **source.fields("source"), **target.fields("target"), **fields, weights=weights,
        bias=whole_vectors(emitter, bias, g.channels), tiles=emitter.rows(table), tile_count=len(table),
        batch=g.batch, in_height=g.in_height, height=height, width=width, stride_height=g.stride_height,
        stride_width=g.stride_width, dilation_height=g.reach[0], source_column=g.reach[1] * VECTOR_BYTES,
        chunk=tiling.chunk, limits=limits(emitter, node),
    )  # fmt: skip
    if activation_fields(node)[0]:
        apply_activation(emitter, node, target)


def _pack(
    emitter: Emitter, g: TransposedGeometry, weights: np.ndarray, columns: int, source: Blocked
) -> tuple[list[tuple[Extent, ...]], Address]:
    """The rows of the table of phase tiles and their weights. All phases of a column tile follow each other."""
    rows: list[tuple[Extent, ...]] = []
    panels: list[tuple[slice, Phase, Phase, int, int, int]] = []
    offset = 0
    for start, (row, column) in product(tile_starts(g.blocks[1], columns), g.pairs()):
        first, last = g.input_blocks(start, columns)
        height, width = len(row.elements), len(column.elements)
        size = (last - first) * height * width * LANES * columns * VECTOR_BYTES
        at = first * source.block_stride + column.origin * VECTOR_BYTES
        place = (start, row.first, column.first, row.origin, height, width, row.count, column.count)
        rows.append((at, last - first, offset, *place))
        panels.append((slice(offset, offset + size), row, column, start, first, last))
        offset += size

    channels = Channels(g.in_channels, g.channels, g.group)

    def fill(memory: np.ndarray) -> None:
        image = np.asarray(weights).reshape(*weights.shape[:2], g.kernel_height, g.kernel_width)
        for place, row, column, start, first, last in panels:
            if row.elements and column.elements:
                part = image[:, :, row.elements][:, :, :, column.elements].reshape(*weights.shape[:2], -1)
                shape = (last - first, part.shape[2], LANES, columns, LANES)
                fill_panel(channels, part, memory[place].view(np.float32).reshape(shape), start, first)

    elements = tuple((-1, *p.elements) for axis in (g.rows, g.columns) for p in axis)
    strides = (g.stride_height, g.stride_width)
    key = (emitter.weights.identity(weights), "phases", columns, g.group, strides, elements)
    return rows, emitter.weights.pack(key, offset, fill, COPIES)
