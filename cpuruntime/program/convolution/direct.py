"""Convolutions: the choice of the way to compute them, dense ones by register tiles, first layers from pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node, Size
from cpuruntime.ops.convolution import COLUMN_TILE, convolution
from cpuruntime.ops.tiles.tile_shapes import UNROLL
from cpuruntime.ops.winograd_methods import Method
from cpuruntime.program.convolution.bf16_product import BF16, emit_bf16_convolution, suits_bf16
from cpuruntime.program.convolution.depthwise import emit_depthwise
from cpuruntime.program.convolution.geometry import DOMAIN, FEW_CHANNELS, Geometry
from cpuruntime.program.convolution.grouped import emit_grouped
from cpuruntime.program.convolution.panels import PanelPacking, tile_starts
from cpuruntime.program.convolution.winograd import emit_winograd
from cpuruntime.program.convolution.winograd_choice import WinogradSizes, rank_methods
from cpuruntime.program.plan.candidate import Candidate, Query
from cpuruntime.program.plan.division import products_by_rows
from cpuruntime.program.plan.elementwise_steps import apply_activation
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, limits, whole_vectors
from cpuruntime.program.plan.lowering import Layout, Methods, lowering, only_images
from cpuruntime.program.plan.storage import Address, Blocked, Interleaved, blocked_view
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings

GATHERED = 256
"""Output channels from which on a strided 1x1 convolution reads a copy of its pixels: measured on Zen 3."""
DIRECT = (Candidate(None, "direct", 0.0),)
BF16_SHARE = 0.55
"""Of the time of direct computation in float32, by bf16 products: measured on Zen 4."""
Way = Method | str | None
"""A method of Winograd's, BF16, or None for direct computation."""


def _check(node: Node) -> str | None:
    if any(value is not None and value.constant is None for value in node.inputs[1:3]):
        return "Conv has kernels for constant weights only"
    if 0 in node.outputs[0].static_shape:
        return "Conv has no kernel for an empty result"
    return only_images(node)


def _suits_winograd(g: Geometry) -> bool:
    few = g.has_narrow_groups or g.in_channels <= FEW_CHANNELS
    return not few and g.parts > 0 and (g.dilation_height, g.dilation_width) == (1, 1)


def _methods(node: Node, exact: bool) -> Methods:
    """Winograd's methods where they apply, bf16 products where these are allowed, and direct computation.

    They are ranked for one thread: results of methods differ in the last bits and must not depend on the threads.
    """
    g = Geometry.of(node)
    candidates: Sequence[Candidate[Any]] = DIRECT
    rounds = node.attributes.get("precision") == BF16 and suits_bf16(g)
    if _suits_winograd(g) and not exact:
        candidates = rank_methods(WinogradSizes.of(g).of_class(), rounds)
    modules = ["convolution", "grouped_convolution", "winograd"]
    if rounds:
        direct = next(each for each in candidates if each.choice is None)
        rounded = Candidate(BF16, BF16, BF16_SHARE * direct.cost)
        candidates = sorted([rounded, *(each for each in candidates if each is not direct)], key=lambda one: one.cost)
        modules.append("bf16_product")
    query = Query(tuple(modules), g)
    return Methods(query, candidates, lambda emitter, method: _emit_alone(emitter, node, g, method))


def halo(node: Node, method: Way) -> tuple[int, int]:
    """The pixels that a method reads to the left and right of the image."""
    g = Geometry.of(node)
    if not isinstance(method, Method):
        return g.pad_left, g.right
    h = method.horizontal
    if isinstance(g.in_width, Size):  # as many as any width may need
        return g.pad_left, max(0, g.pad_right, g.pad_right - g.kernel_width + h.inputs)
    reach = (-(-g.width // h.outputs) - 1) * h.outputs * h.stride + h.inputs
    return g.pad_left, max(g.right, reach - g.pad_left - g.in_width)


def _emit_alone(emitter: Emitter, node: Node, g: Geometry, method: Way) -> None:
    """The step on memory that no other step shares."""
    source = blocked_view(emitter.scratch(0), node.require(0).static_shape, *halo(node, method))
    target = blocked_view(emitter.scratch(0), node.outputs[0].static_shape, 0, 0)
    _emit(emitter, node, g, method, source, target, None)


@lowering("Conv", domain=DOMAIN, layout=Layout.BLOCKED, check=_check, methods=_methods, halo=halo)
def lower_convolution(emitter: Emitter, node: Node) -> None:
    """Emits a convolution, and the activation of one in groups when the kernel cannot apply it."""
    g = Geometry.of(node)
    x, residual_value = node.require(0), node.input(3)
    residual = None if residual_value is None else emitter.blocked(residual_value)
    if g.in_channels <= FEW_CHANNELS and g.group == 1 and not emitter.is_blocked(x):
        source: Blocked | Interleaved = emitter.interleaved(x, g.pad_left, g.right)
    else:
        source = emitter.blocked(x)
    target = emitter.new_blocked(node.outputs[0])
    _emit(emitter, node, g, emitter.methods[node].choice, source, target, residual)


def _emit(
    emitter: Emitter, node: Node, g: Geometry, method: Way, source: Blocked | Interleaved, target: Blocked,
    residual: Blocked | None,
) -> None:  # fmt: skip
    """The step by a method."""
    weights = node.require(1).data
    activation, parameters = activation_fields(node)
    whole = target.has_whole_rows and (residual is None or residual.has_whole_rows)
    gathers = method is None and g.group == 1 and g.channels >= GATHERED
    if isinstance(source, Blocked) and whole and g.is_sparse and gathers:
        g, source = _gathered(emitter, g, source)
    fields = {
        **source.fields("source"), **target.fields("target"), **(residual.fields("residual") if residual else {}),
        "bias": whole_vectors(emitter, node.input(2), g.channels), "limits": limits(emitter, node),
        "batch": g.batch, "in_height": g.in_height, "height": g.height, "width": g.width,
    }  # fmt: skip
    lanes = g.in_channels if isinstance(source, Interleaved) else LANES
    fields["source"] += -g.pad_left * 4 * lanes
    if g.has_narrow_groups:
        emit_depthwise(emitter, g, weights, fields | parameters, activation)
        return
    if isinstance(method, Method):
        emit_winograd(emitter, method, g, weights, fields | parameters, activation)
        return
    views = (source, target, residual)
    if g.is_pointwise and all(v is None or (isinstance(v, Blocked) and v.has_whole_rows) for v in views):
        # Every output pixel reads the input pixel at its place: the image is one long row.
        fields |= {"in_height": 1, "height": 1, "width": g.height * g.width}
    if method == BF16:
        emit_bf16_convolution(emitter, g, weights, fields | parameters, activation)
    elif g.group == 1:
        _emit_dense(emitter, g, weights, fields | parameters, activation, lanes)
    else:
        emit_grouped(emitter, g, weights, fields)
        if activation:
            apply_activation(emitter, node, target)


def _gathered(emitter: Emitter, g: Geometry, source: Blocked) -> tuple[Geometry, Blocked]:
    """The convolution without strides, on a copy of the pixels that it reads: the image is one long row of them."""
    view = blocked_view(emitter.scratch(0), (g.batch, g.in_channels, g.height, g.width), 0, 0)
    batch, block, row = source.strides
    emitter.copy(
        source.address, view.address, (g.batch, g.blocks[0], g.height, g.width, LANES),
        (batch, block, row * g.stride_height, VECTOR_BYTES * g.stride_width, 4), (*view.strides, VECTOR_BYTES, 4),
        4, "blocked",
    )  # fmt: skip
    return replace(g, in_height=g.height, in_width=g.width, stride_height=1, stride_width=1), view


def _emit_dense(
    emitter: Emitter, g: Geometry, weights: np.ndarray, fields: dict[str, Any], activation: str, lanes: int
) -> None:
    """A convolution of one group from blocks, or from pixels of `lanes` channels; `fields` lacks the window."""
    in_blocks, blocks = -(-g.in_channels // lanes), g.blocks[1]
    fields = fields | g.window_fields()
    layout, unroll = "blocked", UNROLL
    fields["steps"], source_bytes = LANES // UNROLL, in_blocks * fields.get("source_block", 0)
    if "source_block" not in fields:
        layout, unroll = "interleaved -> blocked", g.in_channels
        # Undilated, the pixels under one kernel row are one run of floats.
        fields |= {"kernel_width": 1, "steps": g.kernel_width} if g.dilation_width == 1 else {"steps": 1}
    step = g.stride_width * 4 * lanes

    def emit(emitter: Emitter, tiling: Tiling) -> None:
        table, packed, count = _pack(emitter, g, weights, tiling.columns, lanes)
        emitter.emit(
            tiling.fit(fields["width"], lambda rows: convolution(rows, tiling.columns, unroll, step, activation)),
            layout, flops=g.flops, notes=str(tiling), **fields, weights=packed, column_tiles=table,
            column_tile_count=count, source_step=step, source_column=g.dilation_width * 4 * lanes,
            image_left=g.pad_left * 4 * lanes, image_width=g.in_width * 4 * lanes, chunk=tiling.chunk,
        )  # fmt: skip

    fields["left_out"] = (in_blocks * lanes - g.in_channels) // unroll
    inner, pixels = -(-g.in_channels // unroll) * unroll * g.taps, fields["height"] * fields["width"]
    divided = products_by_rows(inner * blocks, source_bytes // VECTOR_BYTES + pixels * blocks, emitter.threads)
    grid = Grid(fields["height"], fields["width"], blocks, inner, source_bytes, by_rows=divided)
    query = Query(("convolution",), g, grid, "residual" in fields, activation)
    emitter.emit_fastest(query, rank_tilings(grid, emitter.threads), emit)


def _pack(
    emitter: Emitter, g: Geometry, weights: np.ndarray, columns: int, lanes: int
) -> tuple[Address, Address, int]:
    """The column tile table, the weights [tile][block][height][width][lanes][columns][LANES], and how many tiles."""
    shape = (-(-g.in_channels // lanes), g.taps, lanes, columns, LANES)
    starts = tile_starts(g.blocks[1], columns)
    table = np.zeros(len(starts), COLUMN_TILE)
    table["blocks"], table["weights"], table["block"] = shape[0], 4 * prod(shape) * np.arange(len(starts)), starts

    key = (emitter.weights.identity(weights), "tiles", lanes, columns)
    packing = PanelPacking(g.all_channels, shape, tuple(starts))
    packed = emitter.weights.packed(key, 4 * prod(shape) * len(starts), packing, weights)
    return emitter.weights.constant((key, "table"), table), packed, len(starts)
