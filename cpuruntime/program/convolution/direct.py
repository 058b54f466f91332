"""Convolutions: the choice of the way to compute them, dense ones by register tiles, first layers from pixels."""

from __future__ import annotations

from math import gcd, lcm, prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node, Type
from cpuruntime.ops.convolution import COLUMN_TILE, UNROLL, convolution
from cpuruntime.ops.winograd_methods import Method
from cpuruntime.program.convolution.depthwise import emit_depthwise
from cpuruntime.program.convolution.grouped import emit_grouped
from cpuruntime.program.convolution.panels import fill_panel, tile_starts
from cpuruntime.program.convolution.winograd import emit_winograd
from cpuruntime.program.convolution.winograd_choice import Layer, rank_methods
from cpuruntime.program.lowerings.elementwise_steps import apply_activation, parameter_fields
from cpuruntime.program.plan.epilogue import clamp_limits, limits, padded_bias
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Address, Blocked, blocked_view, image_shape
from cpuruntime.program.tuning.candidate import Chosen, Comparison
from cpuruntime.program.tuning.tiles import Tiling, rank_tilings

DOMAIN = "cpuruntime"
FEW_CHANNELS = 4
MOST_NARROW = 8

# Source, target and residual.
Views = tuple[Blocked, Blocked, "Blocked | None"]


class Geometry:
    """The sizes of a 1-D or 2-D convolution as if it were 2-D."""

    def __init__(self, node: Node):
        x, w = node.inputs[0], node.inputs[1]
        assert x is not None
        assert w is not None
        self.batch, self.in_channels, self.in_height, self.in_width = image_shape(x.static_shape)
        _, self.channels, self.height, self.width = image_shape(node.outputs[0].static_shape)
        one_dimensional = len(x.static_shape) == 3

        def pair(name: str) -> tuple[int, int]:
            values = node.attributes[name]
            return (1, values[0]) if one_dimensional else (values[0], values[1])

        self.group: int = node.attributes["group"]
        self.kernel_height, self.kernel_width = pair("kernel_shape")
        self.stride_height, self.stride_width = pair("strides")
        self.dilation_height, self.dilation_width = pair("dilations")
        pads = node.attributes["pads"]
        self.pad_top, self.pad_left = (0, pads[0]) if one_dimensional else (pads[0], pads[1])

    @property
    def right(self) -> int:
        """Pixels read to the right of the image."""
        reach = (self.width - 1) * self.stride_width + (self.kernel_width - 1) * self.dilation_width + 1
        return max(0, reach - self.pad_left - self.in_width)

    @property
    def has_narrow_groups(self) -> bool:
        """Whether no group of outputs lies in two vectors, and those in one vector read one vector at most."""
        inputs, outputs = self.in_channels // self.group, self.channels // self.group
        return self.group > 1 and LANES % outputs == 0 and outputs % inputs == 0 and inputs <= MOST_NARROW

    def output_blocks(self, group: int) -> tuple[int, int]:
        """The blocks [first, last) that the outputs of a group lie in."""
        outputs = self.channels // self.group
        return group * outputs // LANES, -(-(group + 1) * outputs // LANES)

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel reads the input pixel at its own place and no other."""
        kernel = (self.kernel_height, self.kernel_width, self.stride_height, self.stride_width)
        return kernel == (1, 1, 1, 1) and (self.pad_top, self.pad_left, self.right) == (0, 0, 0) and (
            self.height == self.in_height
        )

    def window_fields(self) -> dict[str, int]:
        return {
            "kernel_height": self.kernel_height,
            "kernel_width": self.kernel_width,
            "stride_height": self.stride_height,
            "dilation_height": self.dilation_height,
            "pad_top": self.pad_top,
        }

    @property
    def flops(self) -> int:
        kernel = self.kernel_height * self.kernel_width * self.in_channels // self.group
        return 2 * self.batch * self.channels * self.height * self.width * kernel


def _check(node: Node) -> str | None:
    x, w = node.inputs[0], node.inputs[1]
    bias = node.input(2)
    assert x is not None
    assert w is not None
    if any(v is not None and v.element_type != Type.f32 for v in node.inputs):
        return f"Conv has a kernel for f32, not for {x.element_type.get_type_name()}"
    if len(x.static_shape) not in (3, 4):
        return f"Conv has kernels for 1 and 2 spatial dimensions, not for {len(x.static_shape) - 2}"
    if w.constant is None or (bias is not None and bias.constant is None):
        return "Conv has kernels for constant weights only"
    if node.outputs[0].static_shape.count(0):
        return "Conv has no kernel for an empty result"
    return None


def _parts(g: Geometry) -> int:
    """Into how many parts of whole vectors that do not mix the channels fall: groups, or several of them together."""
    if g.group == 1:
        return 1
    together = lcm(LANES // gcd(LANES, g.in_channels // g.group), LANES // gcd(LANES, g.channels // g.group))
    return g.group // together if g.group % together == 0 else 0


def _layer(g: Geometry) -> Layer | None:
    """The convolution as Winograd's method sees it; None when it does not apply."""
    parts = _parts(g)
    if g.has_narrow_groups or g.in_channels <= FEW_CHANNELS or not parts:
        return None
    if (g.dilation_height, g.dilation_width) != (1, 1):
        return None
    in_blocks, out_blocks = (-(-channels // LANES) // parts for channels in (g.in_channels, g.channels))
    kernel, strides = (g.kernel_height, g.kernel_width), (g.stride_height, g.stride_width)
    return Layer(g.batch, parts, in_blocks, out_blocks, g.height, g.width, kernel, strides)


def _method(planner: Planner, node: Node, g: Geometry) -> Chosen[Method | None]:
    """The method that the convolution runs by, None when it is computed directly.

    It is chosen for one thread: with another method results would differ in the last bits, and they must not depend on
    the number of threads.
    """
    layer = _layer(g)
    if planner.exact or layer is None:
        return Chosen(None)
    sizes = (layer, g.in_height, g.in_width)
    return planner.choose_method(node, sizes, rank_methods(layer), lambda trial, m: _emit_alone(trial, node, g, m))


def _halo_of(g: Geometry, method: Method | None) -> tuple[int, int]:
    if method is None:
        return g.pad_left, g.right
    h = method.horizontal
    reach = (-(-g.width // h.outputs) - 1) * h.outputs * h.stride + h.inputs
    return g.pad_left, max(g.right, reach - g.pad_left - g.in_width)


def _halo(node: Node, planner: Planner) -> tuple[int, int]:
    g = Geometry(node)
    return _halo_of(g, _method(planner, node, g).choice)


def _emit_alone(trial: Planner, node: Node, g: Geometry, method: Method | None) -> None:
    """The step on memory that no other step shares."""
    x = node.inputs[0]
    assert x is not None
    source = blocked_view(trial.scratch(0), x.static_shape, *_halo_of(g, method))
    target = blocked_view(trial.scratch(0), node.outputs[0].static_shape, 0, 0)
    _emit(trial, node, g, Chosen(method), (source, target, None))


@lowering("Conv", domain=DOMAIN, layout=Layout.BLOCKED, check=_check, halo=_halo)
def lower_convolution(planner: Planner, node: Node) -> None:
    """Emits a convolution, and the activation of one in groups when the kernel cannot apply it."""
    g = Geometry(node)
    x, residual_value = node.inputs[0], node.input(3)
    assert x is not None
    residual = planner.blocked(residual_value) if residual_value is not None else None
    if g.in_channels <= FEW_CHANNELS and g.group == 1 and not planner.is_blocked(x):
        _emit_interleaved(planner, node, g, residual)
    else:
        method = _method(planner, node, g)
        views = planner.blocked(x), planner.new_blocked(node.outputs[0]), residual
        _emit(planner, node, g, method, views)


def _emit(planner: Planner, node: Node, g: Geometry, method: Chosen[Method | None], views: Views) -> None:
    """The step by a method, between blocked views."""
    layer = _layer(g)
    if method.choice is None and g.group == 1:
        _emit_tiles(planner, node, g, views, method.comparison)
        return
    source, target, residual = views
    common, activation = _common(planner, node, g)
    fields = {**common, **_residual_fields(residual), "source": _shift(source, g.pad_left)}
    if g.has_narrow_groups:
        emit_depthwise(planner, g, _weights(node), source, target, fields, activation)
    elif method.choice is None:
        fields = {name: value for name, value in fields.items() if name not in ("alpha", "beta")}
        fields |= _image(g, views)
        emit_grouped(planner, g, _weights(node), source, target, fields, method.comparison)
        if activation:
            apply_activation(planner, node, target)
    else:
        assert layer is not None
        fields = {name: value for name, value in fields.items() if name not in g.window_fields()}
        fields["pad_top"] = g.pad_top
        emit_winograd(
            planner, method.choice, layer, g, _weights(node), source, target, fields, activation, g.flops,
            method.comparison,
        )  # fmt: skip


def _weights(node: Node) -> np.ndarray:
    w = node.inputs[1]
    assert w is not None
    assert w.constant is not None
    return w.constant


def _common(planner: Planner, node: Node, g: Geometry) -> tuple[dict[str, Any], str]:
    """The fields of all kernels, and the activation that limits cannot express."""
    value = node.input(2)
    bias = padded_bias(None if value is None else value.constant, g.channels, LANES)
    address = planner.weights.constant((planner.weights.identity(bias), "bias"), bias)
    common = {"bias": address, **g.window_fields(), "limits": limits(planner, node)}
    if clamp_limits(node) is not None:
        return common, ""
    activation = node.attributes["activation"]
    return common | parameter_fields(activation, node.attributes["activation_arguments"]), activation


def _window(g: Geometry) -> tuple[int, ...]:
    return (g.kernel_height, g.kernel_width, g.stride_height, g.dilation_height, g.dilation_width, g.pad_top)


def _residual_fields(residual: Blocked | None) -> dict[str, Any]:
    return {} if residual is None else residual.fields("residual")


def _shift(view: Blocked, pixels: int) -> Address:
    return view.address + -pixels * VECTOR_BYTES


def _image(g: Geometry, views: Views) -> dict[str, int]:
    """The sizes of the image: one long row where every output pixel reads the input pixel at its place."""
    if g.is_pointwise and all(v is None or v.has_whole_rows for v in views):
        return {"in_height": 1, "height": 1, "width": g.height * g.width}
    return {"in_height": g.in_height, "height": g.height, "width": g.width}


def _emit_tiles(planner: Planner, node: Node, g: Geometry, views: Views, method: Comparison) -> None:
    weights, (common, activation) = _weights(node), _common(planner, node, g)
    source, target, residual = views
    image = _image(g, views)
    inner = source.blocks * LANES * g.kernel_height * g.kernel_width
    source_bytes = source.blocks * source.block_stride
    fields = {**source.fields("source"), **target.fields("target"), **_residual_fields(residual), **common}
    fields["source"] = _shift(source, g.pad_left)
    step = g.stride_width * VECTOR_BYTES

    def emit(planner: Planner, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        starts = tile_starts(target.blocks, tiling.columns)
        table, packed = _pack_tiles(planner, g, weights, tiling.columns, starts)
        planner.emit(
            convolution(tiling.rows, tiling.columns, UNROLL, step, activation), "blocked", flops=g.flops,
            notes=str(tiling), comparisons=comparisons,
            **fields, weights=packed, column_tiles=table, column_tile_count=len(starts), batch=g.batch,
            **image, source_step=step,
            source_column=g.dilation_width * VECTOR_BYTES, steps=LANES // UNROLL, chunk=tiling.chunk,
        )  # fmt: skip

    grid = (image["height"], image["width"], target.blocks, inner, source_bytes)
    sizes = (grid, g.batch, residual is not None, activation, step, *_window(g))
    tiling = planner.choose("convolution", sizes, rank_tilings(*grid, planner.threads), emit)
    emit(planner, tiling.choice, (method, tiling.comparison))


def _pack_tiles(
    planner: Planner, g: Geometry, weights: np.ndarray, columns: int, starts: list[int]
) -> tuple[Address, Address]:
    """The column tile table and the packed weights [tile][block][height][width][channel][columns][LANES]."""
    shape = (-(-g.in_channels // LANES), g.kernel_height * g.kernel_width, LANES, columns, LANES)
    size = prod(shape) * 4
    table = np.zeros(len(starts), COLUMN_TILE)
    for index, (row, start) in enumerate(zip(table, starts)):
        row["blocks"], row["weights"], row["block"] = shape[0], index * size, start

    def fill(memory: np.ndarray) -> None:
        for index, start in enumerate(starts):
            panel = memory[index * size : (index + 1) * size].view(np.float32)
            fill_panel(g, weights, panel.reshape(shape), start, 0)

    key = (planner.weights.identity(weights), "tiles", columns)
    packed = planner.weights.pack(key, size * len(starts), fill)
    return planner.weights.constant((key, "table"), table), packed


def _emit_interleaved(planner: Planner, node: Node, g: Geometry, residual: Blocked | None) -> None:
    x, weights, (common, activation) = node.inputs[0], _weights(node), _common(planner, node, g)
    assert x is not None
    source = planner.interleaved(x, g.pad_left, g.right)
    target = planner.new_blocked(node.outputs[0])
    pixel = g.in_channels * 4
    inner = g.in_channels * g.kernel_height * g.kernel_width
    # Undilated, the pixels under one kernel row are one run of floats.
    run = {"kernel_width": 1, "steps": g.kernel_width} if g.dilation_width == 1 else {"steps": 1}
    step = g.stride_width * pixel
    fields = {**target.fields("target"), **_residual_fields(residual), **common, **run}

    def emit(planner: Planner, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        starts = tile_starts(target.blocks, tiling.columns)
        table, packed = _pack_interleaved(planner, g, weights, tiling.columns, starts)
        planner.emit(
            convolution(tiling.rows, tiling.columns, g.in_channels, step, activation), "interleaved -> blocked",
            flops=g.flops, notes=str(tiling), comparisons=comparisons,
            **fields, source=source.address + -g.pad_left * pixel, source_batch=source.batch_stride,
            source_row=source.row_stride, weights=packed, column_tiles=table, column_tile_count=len(starts),
            batch=g.batch, in_height=g.in_height, height=g.height, width=g.width, source_step=step,
            source_column=g.dilation_width * pixel, chunk=tiling.chunk,
        )  # fmt: skip

    grid = (g.height, g.width, target.blocks, inner, 0)
    sizes = (grid, g.batch, g.in_channels, residual is not None, activation, step, *_window(g))
    tiling = planner.choose("convolution", sizes, rank_tilings(*grid, planner.threads), emit)
    emit(planner, tiling.choice, (tiling.comparison,))


def _pack_interleaved(
    planner: Planner, g: Geometry, weights: np.ndarray, columns: int, starts: list[int]
) -> tuple[Address, Address]:
    """The column tile table and the packed weights [tile][height][width][channel][columns][LANES]."""
    inner = g.in_channels * g.kernel_height * g.kernel_width
    size = inner * columns * VECTOR_BYTES
    table = np.zeros(len(starts), COLUMN_TILE)
    for index, (row, start) in enumerate(zip(table, starts)):
        row["blocks"], row["weights"], row["block"] = 1, index * size, start

    def fill(memory: np.ndarray) -> None:
        ordered = np.zeros((inner, -(-g.channels // LANES) * LANES), np.float32)
        ordered[:, : g.channels] = weights.reshape(g.channels, g.in_channels, -1).transpose(2, 1, 0).reshape(inner, -1)
        for index, start in enumerate(starts):
            panel = memory[index * size : (index + 1) * size].view(np.float32).reshape(inner, -1)
            panel[...] = ordered[:, start * LANES : (start + columns) * LANES]

    key = (planner.weights.identity(weights), "interleaved", columns)
    packed = planner.weights.pack(key, size * len(starts), fill)
    return planner.weights.constant((key, "table"), table), packed
