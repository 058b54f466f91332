"""Winograd convolution: transformed weights, scratch memory and the step."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.ops.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.winograd import WEIGHT_MATRICES, ZEROS, phases, plane_bytes, scratch_bytes, winograd
from cpuruntime.program.planner import Planner
from cpuruntime.program.storage import Address, Blocked
from cpuruntime.program.winograd_choice import WinogradTiling

UNBOUNDED = np.array([-np.inf, np.inf], np.float32)


def emit_winograd(
    planner: Planner, tiling: WinogradTiling, weights: np.ndarray, source: Blocked, target: Blocked,
    fields: dict[str, Any], pads: tuple[int, int], flops: int,
) -> None:  # fmt: skip
    """A 3 x 3 convolution of stride 1; `fields` has residual, bias and limits, `pads` the padding above and to the left."""
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
    """The weights G w G^T as [product][column tile][in block][LANES][columns][LANES], computed in float64."""
    matrix = WEIGHT_MATRICES[tiling.m]
    both = np.kron(matrix, matrix)
    columns = tiling.columns
    starts = [min(b, out_blocks - columns) for b in range(0, out_blocks, columns)]
    shape = (tiling.products, len(starts), in_blocks, LANES, columns, LANES)
    in_channels = weights.shape[1]

    def fill(memory: np.ndarray) -> None:
        packed = memory.view(np.float32).reshape(shape)
        for index, start in enumerate(starts):
            part = weights[start * LANES : (start + columns) * LANES].reshape(-1, 9)
            dense = np.zeros((tiling.products, columns * LANES, in_blocks * LANES), np.float32)
            rows = part.shape[0] // in_channels
            dense[:, :rows, :in_channels] = (both @ part.T.astype(np.float64)).reshape(-1, rows, in_channels)
            tiled = dense.reshape(tiling.products, columns, LANES, in_blocks, LANES)
            packed[:, index] = tiled.transpose(0, 3, 4, 1, 2)

    key = (planner.weights.identity(weights), "winograd", tiling.m, columns)
    return planner.weights.pack(key, int(np.prod(shape)) * 4, fill)
