"""Transposed convolutions: the phases of their outputs, each an ordinary convolution by part of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node
from cpuruntime.ops.transposed_convolution import PHASE_TILE, transposed_convolution
from cpuruntime.program.convolution.panels import fill_panel, input_ranges, tile_starts
from cpuruntime.program.plan.elementwise_steps import apply_activation
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import clamp_limits, limits, whole_vectors
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.storage import Address, Blocked, image_shape
from cpuruntime.program.tuning.tiles import Grid, rank_tilings


@dataclass(frozen=True)
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


class TransposedGeometry:
    """The sizes of a 1-D or 2-D transposed convolution as if it were 2-D, and its phases."""

    def __init__(self, node: Node):
        x = node.require(0)
        self.batch, self.in_channels, self.in_height, self.in_width = image_shape(x.static_shape)
        _, self.channels, self.height, self.width = image_shape(node.outputs[0].static_shape)
        one_dimensional = len(x.static_shape) == 3

        def pair(name: str, single: int) -> tuple[int, int]:
            values = node.attributes[name]
            return (single, values[0]) if one_dimensional else (values[0], values[1])

        self.group: int = node.attributes["group"]
        self.kernel = pair("kernel_shape", 1)
        self.strides = pair("strides", 1)
        dilations, pads = pair("dilations", 1), pair("pads", 0)
        axes = zip((self.height, self.width), self.kernel, self.strides, dilations, pads)
        self.rows, self.columns = (phases(*axis) for axis in axes)
        self.reach = tuple(d // gcd(s, d) for s, d in zip(self.strides, dilations))

    @property
    def halo(self) -> tuple[int, int]:
        """Pixels read to the left and right of the image."""
        seen = [p for p in self.columns if p.elements]
        ends = [p.origin + p.count - 1 + (len(p.elements) - 1) * self.reach[1] for p in seen]
        left = max((-p.origin for p in seen), default=0)
        return max(0, left), max(0, max(ends, default=0) - self.in_width + 1)

    def pairs(self) -> Iterator[tuple[Phase, Phase]]:
        """All phases of both axes."""
        return ((row, column) for row in self.rows for column in self.columns)

    @property
    def flops(self) -> int:
        elements = sum(r.count * c.count * len(r.elements) * len(c.elements) for r, c in self.pairs())
        return 2 * self.batch * self.channels * self.in_channels // self.group * elements


@lowering(
    "ConvTranspose", domain="cpuruntime", layout=Layout.BLOCKED, halo=lambda node, _: TransposedGeometry(node).halo
)
def lower_transposed_convolution(emitter: Emitter, node: Node) -> None:
    """Emits a transposed convolution, and its activation when the kernel cannot apply it."""
    g = TransposedGeometry(node)
    bias_value, residual_value = node.inputs[2:]
    source = emitter.blocked(node.require(0))
    residual = None if residual_value is None else emitter.blocked(residual_value)
    target = emitter.new_blocked(node.outputs[0])
    bias = whole_vectors(None if bias_value is None else bias_value.constant, g.channels)
    height, width = (max(p.count for p in axis) for axis in (g.rows, g.columns))
    narrowest = min(p.count for p in g.columns)
    kernel = -(-g.kernel[0] * g.kernel[1] // (len(g.rows) * len(g.columns)))
    inner = max(last - first for first, last in input_ranges(g, target.blocks, 1)) * LANES * kernel
    source_bytes = source.blocks * source.block_stride // g.group
    grid = Grid(height, narrowest, target.blocks, inner, source_bytes)
    tiling = rank_tilings(grid, emitter.threads)[0].choice
    table, weights = _pack(emitter, g, node.require(1).data, tiling.columns, source)
    fields = source.fields("source") | target.fields("target")
    if residual is not None:
        fields |= residual.fields("residual")
    emitter.emit(
        transposed_convolution(tiling.rows, tiling.columns), "blocked", flops=g.flops,
        notes=f"{len(g.rows) * len(g.columns)} phases, {tiling}",
        **fields, weights=weights, bias=emitter.constant(bias),
        tiles=emitter.constant(table), tile_count=len(table), batch=g.batch,
        in_height=g.in_height, height=height, width=width, stride_height=g.strides[0], stride_width=g.strides[1],
        dilation_height=g.reach[0], source_column=g.reach[1] * VECTOR_BYTES, chunk=tiling.chunk,
        limits=limits(emitter, node),
    )  # fmt: skip
    if clamp_limits(node) is None:
        apply_activation(emitter, node, target)


def _pack(
    emitter: Emitter, g: TransposedGeometry, weights: np.ndarray, columns: int, source: Blocked
) -> tuple[np.ndarray, Address]:
    """The table of phase tiles and their weights. All phases of a column tile follow each other."""
    blocks = -(-g.channels // LANES)
    rows: list[tuple[int, ...]] = []
    panels: list[tuple[slice, Phase, Phase, int, int, int]] = []
    offset = 0
    for start, (first, last) in zip(tile_starts(blocks, columns), input_ranges(g, blocks, columns)):
        for row, column in g.pairs():
            height, width = len(row.elements), len(column.elements)
            size = (last - first) * height * width * LANES * columns * VECTOR_BYTES
            at = first * source.block_stride + column.origin * VECTOR_BYTES
            place = (start, row.first, column.first, row.origin, height, width, row.count, column.count)
            rows.append((at, last - first, offset, *place))
            panels.append((slice(offset, offset + size), row, column, start, first, last))
            offset += size

    def fill(memory: np.ndarray) -> None:
        image = weights.reshape(*weights.shape[:2], *g.kernel)
        for place, row, column, start, first, last in panels:
            if row.elements and column.elements:
                part = image[:, :, row.elements][:, :, :, column.elements].reshape(*weights.shape[:2], -1)
                shape = (last - first, part.shape[2], LANES, columns, LANES)
                fill_panel(g, part, memory[place].view(np.float32).reshape(shape), start, first)

    elements = tuple((-1, *p.elements) for axis in (g.rows, g.columns) for p in axis)
    key = (emitter.weights.identity(weights), "phases", columns, g.group, g.strides, elements)
    return np.array(rows, PHASE_TILE), emitter.weights.pack(key, offset, fill)
