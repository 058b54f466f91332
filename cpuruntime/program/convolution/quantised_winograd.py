"""3x3 convolutions of 8-bit tensors by Winograd's method in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node, Size, Type
from cpuruntime.ops.quantised_winograd import ARGUMENTS, PLANES, quantised_winograd, scratch_bytes
from cpuruntime.ops.tiles.integer_shapes import CHANNELS
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.integer_weights import PackedWeights, less_zeros
from cpuruntime.program.plan.packing import COPIES
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.integer_tiles import IntegerTiling

WEIGHTS = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.int16)
"""Twice G: whole numbers."""
LARGEST = 2**31
"""Four times each sum of products is below it."""


def suits_winograd(g: Geometry, weights: np.ndarray) -> bool:
    """Whether the method computes a convolution exactly; `weights` are less their zero points."""
    window = g.kernel_height, g.kernel_width, g.stride_height, g.stride_width, g.dilation_height, g.dilation_width
    sizes = (g.height, g.width, g.pad_top)
    if window != (3, 3, 1, 1, 1, 1) or g.group != 1 or any(isinstance(size, Size) for size in sizes):
        return False
    most = max(-int(weights.min(initial=0)), int(weights.max(initial=0)))
    return 4 * 255 * g.in_channels * 9 * most < LARGEST


def emit_quantised_winograd(
    emitter: Emitter, node: Node, g: Geometry, tiling: IntegerTiling, fields: dict[str, Any]
) -> None:
    """The step; `fields` are those of the direct kernel."""
    tiles_y, tiles_x, blocks = -(-g.height // 2), -(-g.width // 2), g.blocks[1]
    pixel = -(-g.in_channels // (2 * LANES)) * 2 * LANES
    width = 2 * tiles_x + 2
    lines = min(tiles_y, (tiling.chunk + tiles_x - 2) // tiles_x + 1)
    panel = (2 * lines + 2) * width * pixel
    scratch = scratch_bytes(tiling.rows, tiling.columns, tiling.chunk, panel, pixel)
    shared = {name: fields[name] for name in fields.keys() & set(ARGUMENTS.names or ())}
    own = dict(
        blocks=blocks, panel_width=width, panel_pixel=pixel, panel_size=panel, tiles_y=tiles_y, tiles_x=tiles_x,
        steps=pixel // CHANNELS, chunk=tiling.chunk, parts=tiling.parts,
        weights=_pack(emitter, node, g, tiling.columns, pixel), **emitter.thread_memory(scratch),
    )  # fmt: skip
    kernel = quantised_winograd(tiling.rows, tiling.columns, node.outputs[0].element_type == Type.f32)
    emitter.emit(kernel, "blocked", flops=g.flops, notes=str(tiling), **(shared | own))


def _pack(emitter: Emitter, node: Node, g: Geometry, columns: int, channels: int) -> Address:
    """The transformed weights as [column tile][plane][a `w16` tile's]."""
    constant, zeros = node.require(1).data, node.attributes["weights_zero"]
    starts = tile_starts(g.blocks[1], columns)
    panel = channels // 2 * columns * VECTOR_BYTES

    def fill(memory: np.ndarray) -> None:
        weights = less_zeros(np.asarray(constant), zeros).astype(np.int16)
        down = np.einsum("ai,ncij->ancj", WEIGHTS, weights)
        planes = np.zeros((PLANES, g.channels, channels), np.int16)
        planes[..., : g.in_channels] = np.einsum("ancj,bj->abnc", down, WEIGHTS).reshape(PLANES, g.channels, -1)
        target = memory.reshape(len(starts), PLANES, panel)
        for plane, numbers in enumerate(planes):
            whole = np.zeros(len(starts) * panel, np.uint8)
            PackedWeights("w16", numbers, columns, starts, None).fill(whole)
            target[:, plane] = whole.reshape(len(starts), panel)

    key = (emitter.weights.identity(constant), "integer winograd", columns, *zeros)
    return emitter.weights.pack(key, len(starts) * PLANES * panel, fill, COPIES)
