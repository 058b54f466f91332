"""Convolutions: the choice of the way to compute them, dense ones by register tiles, first layers from pixels."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node, Type
from cpuruntime.ops.convolution import COLUMN_TILE, UNROLL, convolution
from cpuruntime.ops.winograd_methods import Method
from cpuruntime.program.convolution.depthwise import emit_depthwise
from cpuruntime.program.convolution.geometry import DOMAIN, Geometry
from cpuruntime.program.convolution.grouped import emit_grouped
from cpuruntime.program.convolution.panels import fill_panel, tile_starts
from cpuruntime.program.convolution.winograd import emit_winograd
from cpuruntime.program.convolution.winograd_choice import WinogradSizes, rank_methods
from cpuruntime.program.plan.candidate import Candidate, Chosen, Comparison, Query
from cpuruntime.program.plan.elementwise_steps import apply_activation
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, limits, whole_vectors
from cpuruntime.program.plan.lowering import Layout, Methods, lowering
from cpuruntime.program.plan.storage import Address, Blocked, blocked_view
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings

FEW_CHANNELS = 4
DIRECT = (Candidate(None, "direct", 0.0),)

# Source, target and residual.
Views = tuple[Blocked, Blocked, "Blocked | None"]


def _check(node: Node) -> str | None:
    x, w, bias = node.require(0), node.require(1), node.input(2)
    if any(v is not None and v.element_type != Type.f32 for v in node.inputs):
        return f"Conv has a kernel for f32, not for {x.element_type.get_type_name()}"
    if len(x.static_shape) not in (3, 4):
        return f"Conv has kernels for 1 and 2 spatial dimensions, not for {len(x.static_shape) - 2}"
    if w.constant is None or (bias is not None and bias.constant is None):
        return "Conv has kernels for constant weights only"
    if node.outputs[0].static_shape.count(0):
        return "Conv has no kernel for an empty result"
    return None


def _suits_winograd(g: Geometry) -> bool:
    few = g.has_narrow_groups or g.in_channels <= FEW_CHANNELS
    return not few and g.parts > 0 and (g.dilation_height, g.dilation_width) == (1, 1)


def _methods(node: Node, exact: bool) -> Methods:
    """Winograd's methods where they apply, and direct computation, which is None.

    They are ranked for one thread: with another method results would differ in the last bits, and they must not depend
    on the number of threads.
    """
    g = Geometry.of(node)
    candidates = rank_methods(WinogradSizes.of(g)) if _suits_winograd(g) and not exact else DIRECT
    query = Query(("convolution", "grouped_convolution", "winograd"), g)
    return Methods(query, candidates, lambda emitter, method: _emit_alone(emitter, node, g, method))


def halo(node: Node, method: Method | None) -> tuple[int, int]:
    """The pixels that a method reads to the left and right of the image."""
    g = Geometry.of(node)
    if method is None:
        return g.pad_left, g.right
    h = method.horizontal
    reach = (-(-g.width // h.outputs) - 1) * h.outputs * h.stride + h.inputs
    return g.pad_left, max(g.right, reach - g.pad_left - g.in_width)


def _emit_alone(emitter: Emitter, node: Node, g: Geometry, method: Method | None) -> None:
    """The step on memory that no other step shares."""
    source = blocked_view(emitter.scratch(0), node.require(0).static_shape, *halo(node, method))
    target = blocked_view(emitter.scratch(0), node.outputs[0].static_shape, 0, 0)
    _emit(emitter, node, g, Chosen(method), (source, target, None))


@lowering("Conv", domain=DOMAIN, layout=Layout.BLOCKED, check=_check, methods=_methods, halo=halo)
def lower_convolution(emitter: Emitter, node: Node) -> None:
    """Emits a convolution, and the activation of one in groups when the kernel cannot apply it."""
    g = Geometry.of(node)
    x, residual_value = node.require(0), node.input(3)
    residual = emitter.blocked(residual_value) if residual_value is not None else None
    if g.in_channels <= FEW_CHANNELS and g.group == 1 and not emitter.is_blocked(x):
        _emit_interleaved(emitter, node, g, residual)
    else:
        views = emitter.blocked(x), emitter.new_blocked(node.outputs[0]), residual
        _emit(emitter, node, g, emitter.methods[node], views)


def _emit(emitter: Emitter, node: Node, g: Geometry, method: Chosen[Method | None], views: Views) -> None:
    """The step by a method, between blocked views."""
    if method.choice is None and g.group == 1:
        _emit_tiles(emitter, node, g, views, method.comparison)
        return
    source, target, residual = views
    common, activation = _common(emitter, node, g)
    fields = {**common, **_residual_fields(residual), "source": source.address + -g.pad_left * VECTOR_BYTES}
    if g.has_narrow_groups:
        emit_depthwise(emitter, g, node.require(1).data, source, target, fields, activation)
    elif method.choice is None:
        fields = {name: value for name, value in fields.items() if name not in ("alpha", "beta")}
        fields |= _image(g, views)
        emit_grouped(emitter, g, node.require(1).data, source, target, fields, method.comparison)
        if activation:
            apply_activation(emitter, node, target)
    else:
        fields = {name: value for name, value in fields.items() if name not in g.window_fields()}
        fields["pad_top"] = g.pad_top
        emit_winograd(
            emitter, method.choice, g, node.require(1).data, source, target, fields, activation,
            method.comparison,
        )  # fmt: skip


def _common(emitter: Emitter, node: Node, g: Geometry) -> tuple[dict[str, Any], str]:
    """The fields of all kernels, and the activation that limits cannot express."""
    value = node.input(2)
    bias = whole_vectors(None if value is None else value.constant, g.channels)
    common = {"bias": emitter.constant(bias), **g.window_fields(), "limits": limits(emitter, node)}
    activation, parameters = activation_fields(node)
    return common | parameters, activation


def _residual_fields(residual: Blocked | None) -> dict[str, Any]:
    return {} if residual is None else residual.fields("residual")


def _image(g: Geometry, views: Views) -> dict[str, int]:
    """The sizes of the image: one long row where every output pixel reads the input pixel at its place."""
    if g.is_pointwise and all(v is None or v.has_whole_rows for v in views):
        return {"in_height": 1, "height": 1, "width": g.height * g.width}
    return {"in_height": g.in_height, "height": g.height, "width": g.width}


def _emit_tiles(emitter: Emitter, node: Node, g: Geometry, views: Views, method: Comparison) -> None:
    weights, (common, activation) = node.require(1).data, _common(emitter, node, g)
    source, target, residual = views
    image = _image(g, views)
    inner = source.blocks * LANES * g.kernel_height * g.kernel_width
    source_bytes = source.blocks * source.block_stride
    fields = {**source.fields("source"), **target.fields("target"), **_residual_fields(residual), **common}
    fields["source"] = source.address + -g.pad_left * VECTOR_BYTES
    step = g.stride_width * VECTOR_BYTES

    def emit(emitter: Emitter, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        starts = tile_starts(target.blocks, tiling.columns)
        table, packed = _pack_tiles(emitter, g, weights, tiling.columns, starts)
        emitter.emit(
            convolution(tiling.rows, tiling.columns, UNROLL, step, activation), "blocked", flops=g.flops,
            notes=str(tiling), comparisons=comparisons,
            **fields, weights=packed, column_tiles=table, column_tile_count=len(starts), batch=g.batch,
            **image, source_step=step,
            source_column=g.dilation_width * VECTOR_BYTES, steps=LANES // UNROLL, chunk=tiling.chunk,
        )  # fmt: skip

    grid = Grid(image["height"], image["width"], target.blocks, inner, source_bytes)
    query = Query(("convolution",), g, grid, residual is not None, activation)
    tiling = emitter.choose(query, rank_tilings(grid, emitter.threads), emit)
    emit(emitter, tiling.choice, (method, tiling.comparison))


def _pack_tiles(
    emitter: Emitter, g: Geometry, weights: np.ndarray, columns: int, starts: list[int]
) -> tuple[Address, Address]:
    """The column tile table and the packed weights [tile][block][height][width][channel][columns][LANES]."""
    shape = (-(-g.in_channels // LANES), g.kernel_height * g.kernel_width, LANES, columns, LANES)

    def fill(panel: np.ndarray, start: int) -> None:
        fill_panel(g, weights, panel.reshape(shape), start, 0)

    key = (emitter.weights.identity(weights), "tiles", columns)
    return _pack(emitter, key, starts, shape[0], prod(shape) * 4, fill)


def _pack(
    emitter: Emitter, key: Hashable, starts: list[int], blocks: int, size: int, fill: Callable[[np.ndarray, int], None]
) -> tuple[Address, Address]:
    """The column tile table and a panel of `size` bytes for each tile, written by `fill` (as float32)."""
    table = np.zeros(len(starts), COLUMN_TILE)
    table["blocks"], table["weights"], table["block"] = blocks, size * np.arange(len(starts)), starts

    def fill_all(memory: np.ndarray) -> None:
        for panel, start in zip(memory.view(np.float32).reshape(len(starts), -1), starts):
            fill(panel, start)

    packed = emitter.weights.pack(key, size * len(starts), fill_all)
    return emitter.weights.constant((key, "table"), table), packed


def _emit_interleaved(emitter: Emitter, node: Node, g: Geometry, residual: Blocked | None) -> None:
    weights, (common, activation) = node.require(1).data, _common(emitter, node, g)
    source = emitter.interleaved(node.require(0), g.pad_left, g.right)
    target = emitter.new_blocked(node.outputs[0])
    pixel = g.in_channels * 4
    inner = g.in_channels * g.kernel_height * g.kernel_width
    # Undilated, the pixels under one kernel row are one run of floats.
    run = {"kernel_width": 1, "steps": g.kernel_width} if g.dilation_width == 1 else {"steps": 1}
    step = g.stride_width * pixel
    fields = {**target.fields("target"), **_residual_fields(residual), **common, **run}

    def emit(emitter: Emitter, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        starts = tile_starts(target.blocks, tiling.columns)
        table, packed = _pack_interleaved(emitter, g, weights, tiling.columns, starts)
        emitter.emit(
            convolution(tiling.rows, tiling.columns, g.in_channels, step, activation), "interleaved -> blocked",
            flops=g.flops, notes=str(tiling), comparisons=comparisons,
            **fields, source=source.address + -g.pad_left * pixel, source_batch=source.batch_stride,
            source_row=source.row_stride, weights=packed, column_tiles=table, column_tile_count=len(starts),
            batch=g.batch, in_height=g.in_height, height=g.height, width=g.width, source_step=step,
            source_column=g.dilation_width * pixel, chunk=tiling.chunk,
        )  # fmt: skip

    grid = Grid(g.height, g.width, target.blocks, inner, source_bytes=0)
    query = Query(("convolution",), g, grid, residual is not None, activation)
    tiling = emitter.choose(query, rank_tilings(grid, emitter.threads), emit)
    emit(emitter, tiling.choice, (tiling.comparison,))


def _pack_interleaved(
    emitter: Emitter, g: Geometry, weights: np.ndarray, columns: int, starts: list[int]
) -> tuple[Address, Address]:
    """The column tile table and the packed weights [tile][height][width][channel][columns][LANES]."""
    inner = g.in_channels * g.kernel_height * g.kernel_width

    def fill(panel: np.ndarray, start: int) -> None:
        part = weights[start * LANES : (start + columns) * LANES]
        by_input = part.reshape(len(part), g.in_channels, -1).transpose(2, 1, 0)
        panel.reshape(inner, -1)[:, : len(part)] = by_input.reshape(inner, -1)

    key = (emitter.weights.identity(weights), "interleaved", columns)
    return _pack(emitter, key, starts, 1, inner * columns * VECTOR_BYTES, fill)
