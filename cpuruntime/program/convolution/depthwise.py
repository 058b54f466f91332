"""Convolutions whose groups lie within a vector: depthwise ones, and those of few channels a group."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Size
from cpuruntime.ops.depthwise import depthwise
from cpuruntime.ops.tiles.tile_shapes import lane_rows
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.division import rows_together
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import MANY, fit_rows

# The cost of a tile beside its multiply-adds, in pixels of a 3x3 kernel; measured on Zen 5.
TILE_OVERHEAD = 3
MOST_TAPS = 7


def emit_depthwise(
    emitter: Emitter, g: Geometry, weights: np.ndarray, fields: dict[str, Any], activation: str
) -> None:
    """A convolution of groups within a vector; `fields` has tensors, sizes of the image and what `activation` reads."""
    taps, stride = _run(g)
    inputs, outputs = g.of_group
    moved = inputs if outputs > 1 else 0
    rows = choose_rows(MANY if isinstance(g.width, Size) else g.width, taps, moved)

    def make(rows: int) -> Kernel:
        return depthwise(rows, taps, stride, inputs, outputs, activation)

    emitter.emit(
        fit_rows(g.width, rows, lane_rows(taps, moved), make), "blocked", flops=g.flops, notes=f"tile {rows}x1",
        **fields, **g.window_fields(), weights=_pack(emitter, g, weights, taps), blocks=g.blocks[1],
        source_run=taps * g.dilation_width * VECTOR_BYTES, source_step=g.stride_width * VECTOR_BYTES,
        chunk=rows_together(emitter.node.require(0), g.height, emitter.threads),
    )  # fmt: skip


def choose_rows(width: int, taps: int, moved: int = 0) -> int:
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
    inputs, blocks = g.of_group[0], g.blocks[1]
    window = g.kernel_height, g.kernel_width // taps, taps

    def fill(memory: np.ndarray) -> None:
        padded = np.zeros((blocks * LANES, inputs, *window), np.float32)
        padded[: g.channels] = np.asarray(weights).reshape(g.channels, inputs, *window)
        ordered = padded.reshape(blocks, LANES, inputs, *window).transpose(0, 3, 4, 2, 5, 1)
        memory.view(np.float32).reshape(ordered.shape)[...] = ordered

    key = (emitter.weights.identity(weights), "depthwise", taps)
    return emitter.weights.pack(key, blocks * inputs * g.taps * VECTOR_BYTES, fill)
