"""Winograd convolution: transformed weights, scratch memory and the step."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.errors import InternalError
from cpuruntime.graph import Size
from cpuruntime.ops.bf16_product import SIZE
from cpuruntime.ops.tiles.tile_shapes import winograd_shapes
from cpuruntime.ops.winograd import ZEROS, phases, plane_bytes, scratch_bytes, winograd
from cpuruntime.ops.winograd_methods import Method
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.convolution.transformed import WinogradPacking
from cpuruntime.program.convolution.winograd_choice import WinogradSizes, WinogradTiling, fit_winograd
from cpuruntime.program.plan.candidate import Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import with_limits
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import fit_rows


def emit_winograd(
    emitter: Emitter, method: Method, g: Geometry, weights: np.ndarray, fields: dict[str, Any], activation: str
) -> None:
    """A convolution by a method; `fields` has tensors, bias, limits, sizes of the image, parameters."""
    fields = with_limits(emitter, fields)
    sizes = WinogradSizes.of(g)
    parts, in_blocks, out_blocks = sizes.parts, sizes.in_blocks, sizes.out_blocks

    def emit(emitter: Emitter, tiling: WinogradTiling) -> None:
        rows, columns, tiles = tiling.rows, tiling.columns, g.batch * tiling.tiles_y * tiling.tiles_x
        if not isinstance(tiles, Size) and tiles < max(rows, tiling.group):
            raise InternalError(f"{emitter.node.where}: {tiling} is chosen for fewer tiles.")
        kernels = phases(method, rows, columns, activation)
        options = [option for option, wide in winograd_shapes() if wide == columns]
        kernels["product_phase"] = fit_rows(
            tiling.group, rows, options, lambda rows: phases(method, rows, columns, activation)["product_phase"]
        )
        size = scratch_bytes(method, in_blocks, out_blocks, tiling.group)
        emitter.emit(
            winograd, "blocked", flops=g.flops, notes=str(tiling), **fields, pad_top=g.pad_top,
            **kernels,
            weights=_transformed(emitter, tiling, g, weights, sizes),
            zeros=emitter.constant(np.zeros(ZEROS * LANES, np.float32)),
            **emitter.thread_memory(size),
            parts=parts, in_blocks=in_blocks, out_blocks=out_blocks, tiles_x=tiling.tiles_x, tiles_y=tiling.tiles_y,
            group=tiling.group, products=method.products, in_plane=plane_bytes(in_blocks, tiling.group, method.rounds),
            out_plane=plane_bytes(out_blocks, tiling.group),
        )  # fmt: skip

    query = Query(("winograd",), g, residual="residual" in fields, activation=activation)
    emitter.emit_fastest(query, fit_winograd(sizes, method, emitter.threads), emit)


def _transformed(
    emitter: Emitter, tiling: WinogradTiling, g: Geometry, weights: np.ndarray, sizes: WinogradSizes
) -> Address:
    """The weights G w G^T as `WinogradPacking` has them."""
    parts, in_blocks, out_blocks = sizes.parts, sizes.in_blocks, sizes.out_blocks
    columns, taps = tiling.columns, weights.shape[2:]
    starts = tile_starts(out_blocks, columns)
    shape = (parts, tiling.method.products, len(starts), in_blocks * LANES * columns * LANES)
    size = prod(shape) * (SIZE if tiling.method.rounds else 4)

    packing = WinogradPacking(g.all_channels, tiling.method, tuple(taps), (parts, in_blocks, out_blocks), columns)
    key = (emitter.weights.identity(weights), "winograd", tiling.method, columns, g.group)
    return emitter.weights.packed(key, size, packing, weights)
