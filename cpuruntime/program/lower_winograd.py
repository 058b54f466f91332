"""Winograd convolution: transformed weights, scratch memory and the step."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.ops.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.winograd import ZEROS, phases, plane_bytes, scratch_bytes, winograd, winograd_weights
from cpuruntime.program.packing import copy_into, run_kernel
from cpuruntime.program.planner import Planner
from cpuruntime.program.storage import Address, Blocked
from cpuruntime.program.winograd_choice import WinogradTiling

UNBOUNDED = np.array([-np.inf, np.inf], np.float32)


def emit_winograd(
    planner: Planner, tiling: WinogradTiling, weights: np.ndarray, source: Blocked, target: Blocked,
    fields: dict[str, Any], pads: tuple[int, int], flops: int,
) -> None:  # fmt: skip
    """A 3 x 3 convolution of stride 1; `fields` has residual, bias and limits, `pads` the padding above and left."""
    in_plane = plane_bytes(source.blocks, tiling.group)
    out_plane = plane_bytes(target.blocks, tiling.group)
    size = scratch_bytes(tiling.m, source.blocks, target.blocks, tiling.group)
    if not fields["limits"]:
        fields = fields | {"limits": _constant(planner, UNBOUNDED)}
    kernels = phases(tiling.m, tiling.rows, tiling.columns)
    top, left = pads
    origin = {"source": source.address + -left * VECTOR_BYTES}
    planner.emit(
        winograd, "blocked", flops=flops,
        notes=f"F({tiling.m}x{tiling.m}, 3x3), tile {tiling.rows}x{tiling.columns}, group {tiling.group}",
        **(source.fields("source") | target.fields("target") | fields | kernels | origin),
        weights=_transformed(planner, tiling, weights, source.blocks, target.blocks),
        zeros=_constant(planner, np.zeros(ZEROS * LANES, np.float32)),
        scratch=Address(planner.scratch(size * planner.threads)), scratch_size=size,
        batch=source.batch, in_blocks=source.blocks, out_blocks=target.blocks, in_height=source.height,
        height=target.height, width=target.width, pad_top=top, tiles_x=tiling.tiles_x, tiles_y=tiling.tiles_y,
        group=tiling.group, products=tiling.products, in_plane=in_plane, out_plane=out_plane,
    )  # fmt: skip


def _constant(planner: Planner, array: np.ndarray) -> Address:
    return planner.weights.constant(planner.weights.identity(array), array)


def _transformed(
    planner: Planner, tiling: WinogradTiling, weights: np.ndarray, in_blocks: int, out_blocks: int
) -> Address:
    """The weights G w G^T as [product][column tile][in block][LANES][columns][LANES]."""
    columns = tiling.columns
    starts = [min(b, out_blocks - columns) for b in range(0, out_blocks, columns)]
    shape = (tiling.products, len(starts), in_blocks * LANES * columns * LANES)

    def fill(memory: np.ndarray) -> None:
        packed = memory.view(np.float32).reshape(shape)
        ordered = np.zeros((9, in_blocks * LANES, columns * LANES), np.float32)
        for index, start in enumerate(starts):
            part = weights[start * LANES : (start + columns) * LANES]
            channels, in_channels = part.shape[:2]
            ordered[:, :, channels:] = 0
            copy_into(ordered[:, :in_channels, :channels], part.reshape(channels, in_channels, 9).transpose(2, 1, 0))
            run_kernel(
                winograd_weights(tiling.m), source=ordered.ctypes.data, source_row=ordered.strides[0],
                target=packed[:, index].ctypes.data, target_plane=packed.strides[0], vectors=ordered[0].size // LANES,
            )  # fmt: skip

    key = (planner.weights.identity(weights), "winograd", tiling.m, columns)
    return planner.weights.pack(key, prod(shape) * 4, fill)
