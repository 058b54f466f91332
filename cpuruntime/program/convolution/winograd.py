"""Winograd convolution: transformed weights, scratch memory and the step."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.ops.winograd import ZEROS, phases, plane_bytes, scratch_bytes, winograd, winograd_weights
from cpuruntime.ops.winograd_methods import Method
from cpuruntime.program.convolution.panels import Channels, fill_panel, tile_starts
from cpuruntime.program.convolution.winograd_choice import Layer, WinogradTiling, rank_winograd
from cpuruntime.program.plan.epilogue import with_limits
from cpuruntime.program.plan.packing import run_kernel
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Address, Blocked
from cpuruntime.program.tuning.candidate import Comparison


def emit_winograd(
    planner: Planner, method: Method, layer: Layer, g: Channels, weights: np.ndarray, source: Blocked, target: Blocked,
    fields: dict[str, Any], activation: str, flops: int, methods: Comparison,
) -> None:  # fmt: skip
    """A convolution by a method that was chosen between `methods`.

    `fields` has the place of the first output's input, the padding above, residual, bias, limits and the activation's
    parameters.
    """
    fields = source.fields("source") | target.fields("target") | with_limits(planner, fields)
    parts, in_blocks, out_blocks = sizes = layer.parts, layer.in_blocks, layer.out_blocks

    def emit(planner: Planner, tiling: WinogradTiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        size = scratch_bytes(method, in_blocks, out_blocks, tiling.group)
        planner.emit(
            winograd, "blocked", flops=flops, notes=str(tiling), comparisons=comparisons,
            **fields, **phases(method, tiling.rows, tiling.columns, activation),
            weights=_transformed(planner, tiling, g, weights, sizes),
            zeros=_constant(planner, np.zeros(ZEROS * LANES, np.float32)),
            scratch=Address(planner.scratch(size * planner.threads)), scratch_size=size,
            batch=source.batch, parts=parts, in_blocks=in_blocks, out_blocks=out_blocks, in_height=source.height,
            height=target.height, width=target.width, tiles_x=tiling.tiles_x, tiles_y=tiling.tiles_y,
            group=tiling.group, products=method.products, in_plane=plane_bytes(in_blocks, tiling.group),
            out_plane=plane_bytes(out_blocks, tiling.group),
        )  # fmt: skip

    about = (layer, source.height, fields["pad_top"], "residual" in fields, activation)
    tiling = planner.choose("winograd", about, rank_winograd(layer, method, planner.threads), emit)
    emit(planner, tiling.choice, (methods, tiling.comparison))


def _constant(planner: Planner, array: np.ndarray) -> Address:
    return planner.weights.constant(planner.weights.identity(array), array)


def _transformed(
    planner: Planner, tiling: WinogradTiling, g: Channels, weights: np.ndarray, sizes: tuple[int, int, int]
) -> Address:
    """The weights G w G^T as [part][product][column tile][in block][LANES][columns][LANES]."""
    parts, in_blocks, out_blocks = sizes
    columns, taps = tiling.columns, weights.shape[2:]
    starts = tile_starts(out_blocks, columns)
    shape = (parts, tiling.method.products, len(starts), in_blocks * LANES * columns * LANES)

    def fill(memory: np.ndarray) -> None:
        packed = memory.view(np.float32).reshape(shape)
        ordered = np.zeros((prod(taps), in_blocks, LANES, columns, LANES), np.float32)
        for part in range(parts):
            for index, start in enumerate(starts):
                fill_panel(g, weights, ordered.swapaxes(0, 1), part * out_blocks + start, part * in_blocks)
                run_kernel(
                    winograd_weights(tiling.method), source=ordered.ctypes.data, source_row=ordered.strides[0],
                    target=packed[part, :, index].ctypes.data, target_plane=packed.strides[1],
                    vectors=ordered[0].size // LANES,
                )  # fmt: skip

    key = (planner.weights.identity(weights), "winograd", tiling.method, columns, g.group)
    return planner.weights.pack(key, prod(shape) * 4, fill)
