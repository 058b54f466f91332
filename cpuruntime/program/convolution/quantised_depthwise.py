"""Depthwise convolutions of 8-bit tensors by lane tiles."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, current
from cpuruntime.graph import Node, Size, Type
from cpuruntime.host.caches import caches
from cpuruntime.ops.quantised_depthwise import quantised_depthwise
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.division import rows_together
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.integer_weights import less_zeros
from cpuruntime.program.plan.requantise import channel_parameters
from cpuruntime.program.tuning.tiles import MANY, fit_rows

MOST_TAPS = 7
TILE_OVERHEAD = 1
"""The cost of a tile beside its pixels, in pixels."""
_SPARE = 4
"""Registers beside sums and weights."""


def is_depthwise(g: Geometry) -> bool:
    """Whether lane tiles compute it."""
    return g.of_group == (1, 1) and g.group > 1 and g.dilation_width == 1 and g.kernel_width <= MOST_TAPS


def lane_rows(taps: int) -> tuple[int, ...]:
    """Rows of the tiles over `taps` kernel columns, largest first."""
    most = current().registers - taps - _SPARE
    return tuple(rows for rows in (14, 8, 7, 4, 2, 1) if rows <= most)


def emit_quantised_depthwise(emitter: Emitter, node: Node, g: Geometry, fields: dict[str, Any]) -> None:
    """The step; `fields` has tensors, limits and zero point."""
    blocks, taps, height = g.blocks[1], g.kernel_width, g.kernel_height
    constant = node.require(1).data
    weights = less_zeros(np.asarray(constant), node.attributes["weights_zero"]).reshape(g.channels, height, taps)
    bias = node.input(3)
    no_sums = np.zeros(g.channels, np.int32)  # activations are less their zero point
    parameters = channel_parameters(no_sums, node.require(2).data, None if bias is None else bias.data, blocks)
    pairs, step = -(-height // 2), gcd(g.stride_height, 2 * g.dilation_height)
    down, reach = g.stride_height // step, 2 * g.dilation_height // step
    width = (g.width - 1) * g.stride_width + taps
    chunk = g.height
    if not isinstance(width, Size) and not isinstance(g.height, Size):
        most = max(1, caches().second // 8 // (width * VECTOR_BYTES * down))
        chunk = rows_together(node.require(0), g.height, emitter.threads, most)
    scratch = ((chunk - 1) * down + (pairs - 1) * reach + 1) * width * VECTOR_BYTES + g.in_width * LANES
    floats = node.outputs[0].element_type == Type.f32
    options = lane_rows(taps)
    known = MANY if isinstance(g.width, Size) else g.width
    rows = min((r for r in options if r <= known), key=lambda r: -(-known // r) * (r + TILE_OVERHEAD))

    def fill(memory: np.ndarray) -> None:
        packed = np.zeros((blocks * LANES, pairs * 2, taps), np.int16)
        packed[: g.channels, :height] = weights
        ordered = packed.reshape(blocks, LANES, -1, 2, taps).transpose(0, 2, 4, 1, 3)
        memory.view(np.int16).reshape(ordered.shape)[...] = ordered

    key = (emitter.weights.identity(constant), "integer depthwise", *node.attributes["weights_zero"])
    emitter.emit(
        fit_rows(g.width, rows, options, lambda rows: quantised_depthwise(rows, taps, g.stride_width, floats)),
        "blocked", flops=g.flops, notes=f"tile {rows}x1", **fields, groups=blocks, inner=LANES,
        channels=emitter.constant(parameters), in_height=g.in_height, in_width=g.in_width, height=g.height,
        width=g.width, pad_top=g.pad_top, pad_left=g.pad_left, step_y=step, panel_down=down, panel_width=width,
        kernel_height=pairs, reach_y=reach, walk_row=g.dilation_height, chunk=chunk,
        weights=emitter.weights.pack(key, blocks * pairs * taps * VECTOR_BYTES, fill),
        **emitter.thread_memory(scratch),
    )  # fmt: skip
