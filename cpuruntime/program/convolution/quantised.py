"""Convolutions of 8-bit tensors by integer tiles, exact to the bit."""

from __future__ import annotations

from dataclasses import replace
from math import lcm
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node, Type
from cpuruntime.ops.quantised_product import quantised_product
from cpuruntime.ops.tiles.integer_shapes import AMX, CHANNELS, GATHER, ROW_BYTES, bytes_of, kinds
from cpuruntime.program.convolution.geometry import DOMAIN, Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.convolution.quantised_depthwise import emit_quantised_depthwise, is_depthwise
from cpuruntime.program.convolution.quantised_winograd import emit_quantised_winograd, suits_winograd
from cpuruntime.program.plan.candidate import Query
from cpuruntime.program.plan.division import by_rows
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.integer_weights import (
    Excess,
    PackedWeights,
    extra_steps,
    extra_work,
    less_zeros,
    whole_tiles,
)
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.packing import COPIES
from cpuruntime.program.plan.requantise import channel_parameters, limits, unsigned
from cpuruntime.program.plan.storage import Address, Blocked
from cpuruntime.program.tuning.integer_tiles import WINOGRAD, IntegerGrid, IntegerTiling, rank_integer_tilings
from cpuruntime.records import record

STEP = lcm(CHANNELS, LANES)
"""Channels of a pixel in a panel are padded to a multiple of it, unless a block holds them and they are few."""


def _check(node: Node) -> str | None:
    if len(node.require(0).static_shape) not in (3, 4):
        return "QuantisedConvolution has kernels for 1 and 2 spatial dimensions"
    if any(value is not None and value.constant is None for value in node.inputs[1:4]):
        return "QuantisedConvolution has a kernel for constant weights, multiplier and bias"
    if node.attributes.get("activation", "") not in ("", "Relu", "Clip"):
        return f"QuantisedConvolution has no kernel with activation {node.attributes['activation']}"
    if 0 in node.outputs[0].static_shape:
        return "QuantisedConvolution has no kernel for an empty result"
    return None


@record
class Window:
    """How a convolution reads panels, per channel of the panel.

    A step of the reduction takes CHANNELS channels of `run` ones, `height` x `width` times.
    """

    height: int
    width: int
    run: int
    channels: int

    @classmethod
    def of(cls, g: Geometry, inputs: int) -> Window:
        """The window over `inputs` channels; undilated, the pixels under a kernel row are one run."""
        channels = inputs if inputs < CHANNELS and inputs <= LANES else -(-inputs // STEP) * STEP
        width, run = (1, g.kernel_width * channels) if g.dilation_width == 1 else (g.kernel_width, channels)
        return cls(g.kernel_height, width, -(-run // CHANNELS) * CHANNELS, channels)


@lowering("QuantisedConvolution", domain=DOMAIN, layout=Layout.BLOCKED, check=_check)
def lower_quantised_convolution(emitter: Emitter, node: Node) -> None:
    """A convolution of bytes to bytes or float32."""
    g = Geometry.of(node)
    source = emitter.blocked(node.require(0))
    residual = emitter.blocked(node.require(4)) if node.input(4) is not None else None
    target = emitter.new_blocked(node.outputs[0])
    flip, zero = unsigned(node.require(0), node.attributes["x_zero"])
    fields = {
        **source.fields("source"), **target.fields("target"), "target_pixel": target.pixel,
        "limits": limits(emitter, node), "row_scale": emitter.constant(np.ones(1, np.float32)),
        "flip": flip, "zero": zero, "batch": g.batch, "columns": target.blocks * LANES,
    }  # fmt: skip
    if residual is not None:
        fields |= {**residual.fields("residual"), "residual_pixel": residual.pixel}
    if is_depthwise(g):
        emit_quantised_depthwise(emitter, node, g, fields)
        return
    if g.is_pointwise and all(v is None or v.has_whole_rows for v in (source, target, residual)):
        g = replace(g, in_height=1, in_width=g.in_height * g.in_width, height=1, width=g.height * g.width)
    _emit_dense(emitter, node, g, source, fields)


def _emit_dense(emitter: Emitter, node: Node, g: Geometry, source: Blocked, fields: dict[str, Any]) -> None:
    """The convolution as products of parts that do not mix."""
    parts = g.parts or 1
    inputs, outputs = g.in_channels // parts, g.channels // parts
    window = Window.of(g, inputs)
    weights = _whole_numbers(node, g, parts, window)
    blocks = -(-outputs // LANES)
    sums = weights.sum((2,), dtype=np.int32).reshape(-1)
    excess = [Excess.of(part) for part in weights] if weights.dtype == np.int8 else None
    extra, gathered = {"w16": 0.0}, False
    if excess is not None and "ubs" in kinds():
        gathered, extra["ubs"] = extra_work(excess, weights, window.run)
    if excess is not None:
        suits = [kind for kind in ("vnni", "amx") if kind in kinds() and (kind == "vnni" or g.height == 1)]
        extra = dict.fromkeys(suits, 0.0) or extra
    bias = node.input(3)
    channels = emitter.constant(
        channel_parameters(sums, node.require(2).data, None if bias is None else bias.data, g.blocks[1])
    )
    across = (1, 1) if g.taps > 1 else (g.stride_height, g.stride_width)
    down, right = (g.stride_height, g.stride_width) if g.taps > 1 else (1, 1)
    reach_y, reach_x = (g.kernel_height - 1) * g.dilation_height + 1, (g.kernel_width - 1) * g.dilation_width + 1
    width = (g.width - 1) * right + reach_x
    fields = fields | dict(
        source_group=inputs // LANES * source.block_stride, channels=channels, groups=parts, inner=inputs,
        in_height=g.in_height, in_width=g.in_width, height=g.height, width=g.width, pad_top=g.pad_top,
        pad_left=g.pad_left, step_y=across[0], step_x=across[1], panel_down=down, panel_right=right,
        kernel_height=window.height, kernel_width=window.width, reach_y=reach_y, reach_x=reach_x,
        steps=window.run // CHANNELS,
    )  # fmt: skip

    def emit(emitter: Emitter, tiling: IntegerTiling) -> None:
        if tiling.kind == WINOGRAD:
            emit_quantised_winograd(emitter, node, g, tiling, fields)
            return
        size = bytes_of(tiling.kind)
        # A chunk of one line takes as many pixels of the panel as it reads.
        panel_width = (tiling.chunk - 1) * right + reach_x if g.height == 1 else width
        lines = 1 if g.height == 1 else (tiling.chunk + g.width - 2) // g.width + 1
        pixel = window.channels * size
        walk = g.dilation_height * panel_width * pixel, g.dilation_width * pixel
        gathers = gathered and tiling.kind == "ubs"
        packed, table, extras = _pack(emitter, node, weights, excess, tiling, blocks, window, walk, gathers)
        rows = (lines - 1) * down + reach_y
        behind = 2 * STEP * size + GATHER + (tiling.rows * right * pixel if tiling.kind in AMX else 0)
        scratch = (tiling.chunk + tiling.rows) * ROW_BYTES + rows * panel_width * pixel + behind
        emitter.emit(
            quantised_product(tiling.kind, tiling.rows, tiling.columns, "blocks", _is_float(node)), "blocked",
            flops=g.flops, notes=str(tiling), **fields, weights=packed, extras=extras, column_tiles=table,
            column_tile_count=len(tile_starts(blocks, tiling.columns)), panel_width=panel_width, panel_pixel=pixel,
            walk_row=walk[0], walk_column=walk[1], gathered=int(gathers), chunk=tiling.chunk, parts=tiling.parts,
            **emitter.thread_memory(scratch),
        )  # fmt: skip

    grid = IntegerGrid(
        g.batch * parts, g.height, g.height * g.width, blocks, window.height * window.width * window.run,
        width * window.channels * down, _by_channels(emitter, node),
    )  # fmt: skip
    query = Query(("quantised_product",), g, (grid, round(extra.get("ubs", -1), 1)), "residual" in fields)
    if suits_winograd(g, weights):
        extra[WINOGRAD] = 0.0
    emitter.emit_fastest(query, rank_integer_tilings(grid, extra, emitter.threads), emit)


def _by_channels(emitter: Emitter, node: Node) -> bool:
    """Whether threads had better divide the channels, as those do that read the result."""
    readers = emitter.readers(node.outputs[0])
    if emitter.threads == 1 or not readers or by_rows(node.outputs[0], emitter.threads):
        return False
    return all(reader.op_type == node.op_type and is_depthwise(Geometry.of(reader)) for reader in readers)


def _is_float(node: Node) -> bool:
    return node.outputs[0].element_type == Type.f32


def _whole_numbers(node: Node, g: Geometry, parts: int, window: Window) -> np.ndarray:
    """The weights as [parts][outputs of a part][reduction], int8 or int16, with zeros between groups."""
    weights = less_zeros(np.asarray(node.require(1).data), node.attributes["weights_zero"])
    dtype = np.int8 if weights.dtype == np.int8 else np.int16
    group_in, group_out = g.of_group
    outputs, together = g.channels // parts, g.group // parts
    rows = weights.reshape(parts, together, group_out, group_in, g.kernel_height, g.kernel_width)
    whole = np.zeros((parts, together, group_out, g.kernel_height, g.kernel_width, window.channels), dtype)
    for group in range(together):
        part = whole[:, group, ..., group * group_in : (group + 1) * group_in]
        part[...] = rows[:, group].transpose(0, 1, 3, 4, 2)
    runs = whole.reshape(parts, outputs, window.height, window.width, -1)
    padding = [(0, 0)] * 4 + [(0, window.run - runs.shape[-1])]
    return (np.pad(runs, padding) if any(padding[-1]) else runs).reshape(parts, outputs, -1)


def _pack(
    emitter: Emitter, node: Node, weights: np.ndarray, excess: list[Excess] | None, tiling: IntegerTiling, blocks: int,
    window: Window, walk: tuple[Any, Any], gathers: bool,
) -> tuple[Address, Address, Address]:  # fmt: skip
    """The packed weights, the column tile table and the extra steps of all parts."""
    kind, starts = tiling.kind, tile_starts(blocks, tiling.columns)
    if kind == "w16":
        weights = weights.astype(np.int16)
    elif kind in AMX:
        weights = whole_tiles(weights, window.run)
    found = [
        PackedWeights(kind, part, tiling.columns, starts, excess[i] if excess else None, gathers * window.run)
        for i, part in enumerate(weights)
    ]
    tables, extras, at = [], [], 0
    for i, part in enumerate(found):
        tables.append(part.table(i * blocks, at, 8 * len(extras)))
        extras += part.extras()
        at += part.nbytes
    offsets = [part.nbytes for part in found]

    def fill(memory: np.ndarray) -> None:
        first = 0
        for part, size in zip(found, offsets):
            part.fill(memory[first : first + size])
            first += size

    constant = node.require(1).data
    form = kind, tiling.columns, window, len(found), gathers, *node.attributes["weights_zero"]
    packed = emitter.weights.pack((emitter.weights.identity(constant), "integer", form), at, fill, COPIES)
    steps = extra_steps(emitter, extras, (window.height, window.width, window.run), walk)
    return packed, emitter.constant(np.concatenate(tables)), steps
