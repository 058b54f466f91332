"""3x3 convolutions by Winograd's algorithm: transformed tiles, their products with the weights, and images again."""

from __future__ import annotations

import numpy as np

from cpuruntime.devices.gpu.kernels.winograd import Collect, Spread, transformed
from cpuruntime.devices.gpu.lower.convolution_window import Axis, Window
from cpuruntime.devices.gpu.lower.emitter import Emitter
from cpuruntime.devices.gpu.lower.product import activation_of, emit_product, pack, tile_for
from cpuruntime.devices.gpu.lower.walks import floats
from cpuruntime.graph import Node

LEAST = 16
"""Channels, of input and output, below which transforms take more than they save; arbitrary."""


def is_winograd(window: Window) -> bool:
    """Whether a convolution can be computed so, and is worth to be tried."""
    is_fit = window.kernel == (3, 3) and window.strides == (1, 1) == window.dilations and window.groups == 1
    is_image = window.frames == Axis() and min(window.target) > 1
    return is_fit and is_image and min(window.inputs, window.outputs) >= LEAST


def lower_winograd(emitter: Emitter, node: Node, window: Window) -> None:
    """Convolution, bias, residual, activation."""
    channels, outputs, (height, width) = window.inputs, window.outputs, window.target
    grid = -(-height // 2), -(-width // 2)
    tiles = window.batch * grid[0] * grid[1]
    source, spread = emitter.place(node.require(0)), emitter.scratch(16 * channels * tiles)
    kernel = Spread(source.element_type, spread.element_type).source
    sizes = [channels * tiles, channels, *window.source, *grid, *window.before]
    emitter.each(kernel, [source.buffer, spread.buffer, *sizes], sizes[0])
    tile = tile_for(emitter, "winograd", outputs, tiles, channels)
    weights = np.asarray(node.require(1).data)
    key = (node.require(1), "winograd", tile.rows if not tile.depth else 0, emitter.precision)
    a = emitter.packed(key, (), emitter.precision, lambda: pack(transformed(weights), tile))
    products = emitter.scratch(16 * outputs * tiles, "f32")
    padded = -(-outputs // tile.rows) * tile.rows if not tile.depth else outputs
    given = {
        "M": outputs, "N": tiles, "K": channels, "a_row": outputs, "b_step": tiles, "b_column": 1, "c_row": tiles,
        "inner": 16, "a_inner": padded * channels, "b_inner": channels * tiles, "c_inner": outputs * tiles,
    }  # fmt: skip
    emit_product(emitter, tile, a, spread, products, given, 16, packed_a=True)
    bias, residual, target = node.input(2), node.input(3), emitter.new(node.outputs[0])
    extra = [floats(emitter, bias)] if bias else []
    extra += [emitter.place(residual)] if residual else []
    activation, numbers = activation_of(node)
    collect = Collect(
        target.element_type, bias is not None, extra[-1].element_type if residual else "", activation, numbers
    )  # fmt: skip
    sizes = [outputs * tiles, outputs, height, width, *grid]
    buffers = [place.buffer for place in (products, target, *extra)]
    emitter.each(collect.source, [*buffers, *sizes], sizes[0])
