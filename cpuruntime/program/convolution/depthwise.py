"""Convolutions whose groups lie within a vector: depthwise ones, and those of few channels a group."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.depthwise import depthwise
from cpuruntime.ops.tiles.tile_shapes import lane_rows
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.storage import Address, Blocked

# The cost of a tile beside its multiply-adds, in pixels of a 3x3 kernel; measured on Zen 5.
TILE_OVERHEAD = 3
MOST_TAPS = 7


def emit_depthwise(
    emitter: Emitter, g: Geometry, weights: np.ndarray, source: Blocked, target: Blocked, fields: dict[str, Any],
    activation: str,
) -> None:  # fmt: skip
    """A convolution of groups within a vector; `fields` has residual, bias, the window and what `activation` reads."""
    taps, stride = _run(g)
    inputs, outputs = g.in_channels // g.group, g.channels // g.group
    rows = choose_rows(g.width, taps, outputs > 1)
    run = taps * g.dilation_width * VECTOR_BYTES
    emitter.emit(
        depthwise(rows, taps, stride, inputs, outputs, activation), "blocked", flops=g.flops,
        notes=f"tile {rows}x1",
        **(source.fields("source") | target.fields("target") | fields),
        weights=_pack(emitter, g, weights, taps), batch=g.batch, blocks=target.blocks, in_height=g.in_height,
        height=g.height, width=g.width, source_run=run, source_step=g.stride_width * VECTOR_BYTES,
    )  # fmt: skip


def choose_rows(width: int, taps: int, moved: bool = False) -> int:
    """The rows of the tile, see `lane_rows`, that computes the fewest pixels of an image's row twice."""
    return min((r for r in lane_rows(taps, moved) if r <= width), key=lambda r: -(-width // r) * (r + TILE_OVERHEAD))


def _run(g: Geometry) -> tuple[int, int | None]:
    """Kernel columns that a tile slides over at once, and its stride (None: that of the argument block)."""
    if g.dilation_width != 1 or g.stride_width > 2:
        return 1, None
    taps = next(t for t in range(MOST_TAPS, 0, -1) if g.kernel_width % t == 0)
    return (1, None) if taps == 1 else (taps, g.stride_width)


def _pack(emitter: Emitter, g: Geometry, weights: np.ndarray, taps: int) -> Address:
    """Weights as [block][height][run][input][taps][LANES]."""
    inputs, blocks = g.in_channels // g.group, -(-g.channels // LANES)
    window = g.kernel_height, g.kernel_width // taps, taps
    shape = (blocks, window[0], window[1], inputs, taps, LANES)

    def fill(memory: np.ndarray) -> None:
        padded = np.zeros((blocks * LANES, inputs, *window), np.float32)
        padded[: g.channels] = weights.reshape(g.channels, inputs, *window)
        ordered = padded.reshape(blocks, LANES, inputs, *window).transpose(0, 3, 4, 2, 5, 1)
        memory.view(np.float32).reshape(shape)[...] = ordered

    key = (emitter.weights.identity(weights), "depthwise", taps)
    return emitter.weights.pack(key, 4 * blocks * inputs * LANES * g.kernel_height * g.kernel_width, fill)
