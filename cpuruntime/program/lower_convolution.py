"""Convolutions: dense and grouped ones by register tiles, depthwise ones by lanes, first layers from pixels."""

from __future__ import annotations

from math import gcd, lcm
from typing import Any

import numpy as np

from cpuruntime.graph.graph import Node
from cpuruntime.graph.types import Type
from cpuruntime.ops.convolution import COLUMN_TILE, UNROLL, convolution
from cpuruntime.ops.depthwise import depthwise
from cpuruntime.ops.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.tile_shapes import depthwise_rows
from cpuruntime.program.elementwise_steps import apply_activation, parameter_fields
from cpuruntime.program.epilogue import clamp_limits, limits, padded_bias
from cpuruntime.program.lower_winograd import emit_winograd
from cpuruntime.program.lowering import Layout, lowering
from cpuruntime.program.panels import fill_panel, input_ranges, tile_starts
from cpuruntime.program.planner import Planner
from cpuruntime.program.storage import Address, Blocked, image_shape
from cpuruntime.program.tiles import choose_tiling
from cpuruntime.program.winograd_choice import Layer, WinogradTiling, choose_winograd

DOMAIN = "cpuruntime"
FEW_CHANNELS = 4


class Geometry:
    """The sizes of a 1-D or 2-D convolution as if it were 2-D."""

    def __init__(self, node: Node):
        x, w = node.inputs[0], node.inputs[1]
        assert x is not None
        assert w is not None
        self.batch, self.in_channels, self.in_height, self.in_width = image_shape(x.static_shape)
        _, self.channels, self.height, self.width = image_shape(node.outputs[0].static_shape)
        one_dimensional = len(x.static_shape) == 3

        def pair(name: str) -> tuple[int, int]:
            values = node.attributes[name]
            return (1, values[0]) if one_dimensional else (values[0], values[1])

        self.group: int = node.attributes["group"]
        self.kernel_height, self.kernel_width = pair("kernel_shape")
        self.stride_height, self.stride_width = pair("strides")
        self.dilation_height, self.dilation_width = pair("dilations")
        pads = node.attributes["pads"]
        self.pad_top, self.pad_left = (0, pads[0]) if one_dimensional else (pads[0], pads[1])

    @property
    def right(self) -> int:
        """Pixels read to the right of the image."""
        reach = (self.width - 1) * self.stride_width + (self.kernel_width - 1) * self.dilation_width + 1
        return max(0, reach - self.pad_left - self.in_width)

    @property
    def is_depthwise(self) -> bool:
        return self.group > 1 and self.group == self.in_channels == self.channels

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel reads the input pixel at its own place and no other."""
        kernel = (self.kernel_height, self.kernel_width, self.stride_height, self.stride_width)
        return kernel == (1, 1, 1, 1) and (self.pad_top, self.pad_left, self.right) == (0, 0, 0) and (
            self.height == self.in_height
        )

    def window_fields(self) -> dict[str, int]:
        return {
            "kernel_height": self.kernel_height,
            "kernel_width": self.kernel_width,
            "stride_height": self.stride_height,
            "dilation_height": self.dilation_height,
            "pad_top": self.pad_top,
        }

    @property
    def flops(self) -> int:
        kernel = self.kernel_height * self.kernel_width * self.in_channels // self.group
        return 2 * self.batch * self.channels * self.height * self.width * kernel


def _check(node: Node) -> str | None:
    x, w = node.inputs[0], node.inputs[1]
    bias = node.input(2)
    assert x is not None
    assert w is not None
    if any(v is not None and v.element_type != Type.f32 for v in node.inputs):
        return f"Conv has a kernel for f32, not for {x.element_type.get_type_name()}"
    if len(x.static_shape) not in (3, 4):
        return f"Conv has kernels for 1 and 2 spatial dimensions, not for {len(x.static_shape) - 2}"
    if w.constant is None or (bias is not None and bias.constant is None):
        return "Conv has kernels for constant weights only"
    if node.outputs[0].static_shape.count(0):
        return "Conv has no kernel for an empty result"
    return None


def _parts(g: Geometry) -> int:
    """Into how many parts of whole vectors that do not mix the channels fall: groups, or several of them together."""
    if g.group == 1:
        return 1
    together = lcm(LANES // gcd(LANES, g.in_channels // g.group), LANES // gcd(LANES, g.channels // g.group))
    return g.group // together if g.group % together == 0 else 0


def _winograd(g: Geometry, threads: int, exact: bool) -> WinogradTiling | None:
    """The tiling when the convolution runs by Winograd's method."""
    parts = _parts(g)
    if exact or g.in_channels <= FEW_CHANNELS or not parts or (g.dilation_height, g.dilation_width) != (1, 1):
        return None
    in_blocks, out_blocks = (-(-channels // LANES) // parts for channels in (g.in_channels, g.channels))
    kernel, strides = (g.kernel_height, g.kernel_width), (g.stride_height, g.stride_width)
    layer = Layer(g.batch, parts, in_blocks, out_blocks, g.height, g.width, kernel, strides)
    return choose_winograd(layer, threads)


def _halo(node: Node, threads: int, exact: bool) -> tuple[int, int]:
    g = Geometry(node)
    tiling = None if g.is_depthwise else _winograd(g, threads, exact)
    if tiling is None:
        return g.pad_left, g.right
    h = tiling.method.horizontal
    reach = (tiling.tiles_x - 1) * h.outputs * h.stride + h.inputs
    return g.pad_left, max(g.right, reach - g.pad_left - g.in_width)


@lowering("Conv", domain=DOMAIN, layout=Layout.BLOCKED, check=_check, halo=_halo)
def lower_convolution(planner: Planner, node: Node) -> None:
    """Emits a convolution, and the activation of a depthwise one when the kernel cannot apply it."""
    g = Geometry(node)
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None
    assert w is not None
    assert w.constant is not None
    residual_value, bias_value = node.input(3), node.input(2)
    residual = planner.blocked(residual_value) if residual_value is not None else None
    bias = padded_bias(None if bias_value is None else bias_value.constant, g.channels, LANES)
    common: dict[str, Any] = dict(
        bias=planner.weights.constant((planner.weights.identity(bias), "bias"), bias),
        **g.window_fields(),
        limits=limits(planner, node),
    )
    activation = ""
    if clamp_limits(node) is None:
        activation = node.attributes["activation"]
        common.update(parameter_fields(activation, node.attributes["activation_arguments"]))
    if g.is_depthwise:
        common = {name: value for name, value in common.items() if name not in ("alpha", "beta")}
        source = planner.blocked(x)
        target = planner.new_blocked(node.outputs[0])
        _emit_depthwise(planner, g, w.constant, (source, target, residual), common)
        if activation:
            apply_activation(planner, node, target)
    elif g.in_channels <= FEW_CHANNELS and g.group == 1 and not planner.is_blocked(x):
        _emit_interleaved(planner, node, g, w.constant, residual, common, activation)
    else:
        source = planner.blocked(x)
        target = planner.new_blocked(node.outputs[0])
        tiling = _winograd(g, planner.threads, planner.exact)
        if tiling is None:
            _emit_tiles(planner, g, w.constant, (source, target, residual), common, activation)
        else:
            fields = {name: value for name, value in common.items() if name not in g.window_fields()}
            fields |= {"pad_top": g.pad_top, "source": _shift(source, g.pad_left), **_residual_fields(residual)}
            emit_winograd(planner, tiling, g, _parts(g), w.constant, source, target, fields, activation, g.flops)


def _residual_fields(residual: Blocked | None) -> dict[str, Any]:
    return {} if residual is None else residual.fields("residual")


def _shift(view: Blocked, pixels: int) -> Address:
    return view.address + -pixels * VECTOR_BYTES


def _emit_depthwise(
    planner: Planner, g: Geometry, weights: np.ndarray, views: tuple[Blocked, Blocked, Blocked | None], common: dict
) -> None:
    source, target, residual = views

    def fill(memory: np.ndarray) -> None:
        packed = memory.view(np.float32).reshape(source.blocks, g.kernel_height * g.kernel_width, LANES)
        flat = weights.reshape(g.channels, -1)
        for block in range(source.blocks):
            part = flat[block * LANES : (block + 1) * LANES]
            packed[block, :, : len(part)] = part.T

    size = source.blocks * g.kernel_height * g.kernel_width * VECTOR_BYTES
    rows = next(r for r in depthwise_rows() if r <= g.width)
    fields = {**source.fields("source"), **target.fields("target"), **_residual_fields(residual), **common}
    fields["source"] = _shift(source, g.pad_left)
    planner.emit(
        depthwise(rows), "blocked", flops=g.flops, notes=f"tile {rows}x1",
        **fields, weights=planner.weights.pack((planner.weights.identity(weights), "depthwise"), size, fill),
        batch=g.batch, blocks=source.blocks, in_height=g.in_height, height=g.height, width=g.width,
        source_step=g.stride_width * VECTOR_BYTES, source_column=g.dilation_width * VECTOR_BYTES,
    )  # fmt: skip


def _emit_tiles(
    planner: Planner, g: Geometry, weights: np.ndarray, views: tuple[Blocked, Blocked, Blocked | None], common: dict,
    activation: str,
) -> None:  # fmt: skip
    source, target, residual = views
    flat = g.is_pointwise and all(v is None or v.has_whole_rows for v in views)
    lines, pixels = (1, g.height * g.width) if flat else (g.height, g.width)
    ranges = input_ranges(g, target.blocks, 1)
    widest = max(last - first for first, last in ranges)
    kernel = g.kernel_height * g.kernel_width
    source_bytes = source.blocks * source.block_stride
    tiling = choose_tiling(
        lines, pixels, target.blocks, widest * LANES * kernel, source_bytes // g.group, planner.threads
    )
    ranges = input_ranges(g, target.blocks, tiling.columns)
    fields = {**source.fields("source"), **target.fields("target"), **_residual_fields(residual), **common}
    fields["source"] = _shift(source, g.pad_left)
    key = (planner.weights.identity(weights), "tiles", tiling.columns, g.group)
    table, packed = _pack_tiles(planner, key, g, weights, tiling.columns, ranges, source.block_stride)
    step = g.stride_width * VECTOR_BYTES
    planner.emit(
        convolution(tiling.rows, tiling.columns, UNROLL, step, activation), "blocked", flops=g.flops,
        notes=f"tile {tiling.rows}x{tiling.columns}, chunk {tiling.chunk}",
        **fields, weights=packed, column_tiles=table, column_tile_count=len(ranges), batch=g.batch,
        in_height=1 if flat else g.in_height, height=lines, width=pixels, source_step=step,
        source_column=g.dilation_width * VECTOR_BYTES, steps=LANES // UNROLL, chunk=tiling.chunk,
    )  # fmt: skip


def _pack_tiles(
    planner: Planner, key: tuple, g: Geometry, weights: np.ndarray, columns: int, ranges: list[tuple[int, int]],
    block_stride: int,
) -> tuple[Address, Address]:  # fmt: skip
    """The column tile table and the packed weights [tile][block][height][width][channel][columns][LANES]."""
    blocks = -(-g.channels // LANES)
    starts = tile_starts(blocks, columns)
    kernel = g.kernel_height * g.kernel_width
    sizes = [(last - first) * kernel * LANES * columns * VECTOR_BYTES for first, last in ranges]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    table = np.zeros(len(starts), COLUMN_TILE)
    for row, start, (first, last), offset in zip(table, starts, ranges, offsets):
        row["source"], row["blocks"], row["weights"], row["block"] = first * block_stride, last - first, offset, start

    def fill(memory: np.ndarray) -> None:
        for start, (first, last), offset, size in zip(starts, ranges, offsets, sizes):
            panel = memory[offset : offset + size].view(np.float32)
            shape = (last - first, kernel, LANES, columns, LANES)
            fill_panel(g, weights, panel.reshape(shape), start, first)

    table_address = planner.weights.constant((key, "table", block_stride), table)
    return table_address, planner.weights.pack(key, int(offsets[-1]), fill)


def _emit_interleaved(
    planner: Planner, node: Node, g: Geometry, weights: np.ndarray, residual: Blocked | None, common: dict,
    activation: str,
) -> None:  # fmt: skip
    x = node.inputs[0]
    assert x is not None
    source = planner.interleaved(x, g.pad_left, g.right)
    target = planner.new_blocked(node.outputs[0])
    pixel = g.in_channels * 4
    inner = g.in_channels * g.kernel_height * g.kernel_width
    tiling = choose_tiling(g.height, g.width, target.blocks, inner, 0, planner.threads)
    starts = tile_starts(target.blocks, tiling.columns)
    size = inner * tiling.columns * VECTOR_BYTES
    table = np.zeros(len(starts), COLUMN_TILE)
    for index, (row, start) in enumerate(zip(table, starts)):
        row["blocks"], row["weights"], row["block"] = 1, index * size, start

    def fill(memory: np.ndarray) -> None:
        ordered = np.zeros((inner, target.blocks * LANES), np.float32)
        ordered[:, : g.channels] = weights.reshape(g.channels, g.in_channels, -1).transpose(2, 1, 0).reshape(inner, -1)
        for index, start in enumerate(starts):
            panel = memory[index * size : (index + 1) * size].view(np.float32).reshape(inner, -1)
            panel[...] = ordered[:, start * LANES : (start + tiling.columns) * LANES]

    key = (planner.weights.identity(weights), "interleaved", tiling.columns)
    # Undilated, the pixels under one kernel row are one run of floats.
    run = {"kernel_width": 1, "steps": g.kernel_width} if g.dilation_width == 1 else {"steps": 1}
    step = g.stride_width * pixel
    fields = {**target.fields("target"), **_residual_fields(residual), **common, **run}
    planner.emit(
        convolution(tiling.rows, tiling.columns, g.in_channels, step, activation), "interleaved -> blocked",
        flops=g.flops, notes=f"tile {tiling.rows}x{tiling.columns}, chunk {tiling.chunk}",
        **fields, source=source.address + -g.pad_left * pixel, source_batch=source.batch_stride,
        source_row=source.row_stride, weights=planner.weights.pack(key, size * len(starts), fill),
        column_tiles=planner.weights.constant((key, "table"), table), column_tile_count=len(starts),
        batch=g.batch, in_height=g.in_height, height=g.height, width=g.width, source_step=step,
        source_column=g.dilation_width * pixel, chunk=tiling.chunk,
    )  # fmt: skip
