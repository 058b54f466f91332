"""Pools, and images of other sizes."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.devices.gpu.kernels.movement import Taps
from cpuruntime.devices.gpu.kernels.windows import Pool
from cpuruntime.devices.gpu.lower.convolution_window import axes_of
from cpuruntime.devices.gpu.lower.emitter import Emitter, Place
from cpuruntime.devices.gpu.lower.walks import copy, whole
from cpuruntime.graph import Node
from cpuruntime.program.lowerings.resize import axis_taps


def lower_pool(emitter: Emitter, node: Node) -> None:
    """MaxPool and AveragePool over one to three axes."""
    source, target, of = emitter.place(node.require(0)), emitter.new(node.outputs[0]), node.attributes
    kernel = Pool(
        source.element_type, target.element_type, node.op_type == "AveragePool", bool(of.get("count_include_pad", 0))
    )  # fmt: skip
    sizes = [size for sizes in zip(*axes_of(node)) for size in sizes]
    emitter.each(kernel.source, [source.buffer, target.buffer, target.size, *sizes], target.size)


def check_pool(node: Node) -> str | None:
    """Why a pool has no kernel."""
    if len(node.require(0).static_shape) not in (3, 4, 5):
        return f"{node.op_type} has kernels for 1 to 3 spatial axes"
    if len(node.outputs) > 1 or "pads" not in node.attributes:
        return f"{node.op_type} has no kernel for indices or negative padding"
    return None


def lower_resize(emitter: Emitter, node: Node) -> None:
    """One axis after the other."""
    source, output = emitter.place(node.require(0)), node.outputs[0]
    shape = list(source.shape)
    found = [(axis, taps) for axis in range(len(shape)) if (taps := axis_taps(node, axis)) is not None]
    if not found:
        copy(emitter, whole(source), whole(emitter.new(output)), source.shape)
    outside = float(node.attributes.get("extrapolation_value", 0.0))
    for axis, taps in found:
        length, extent = shape[axis], output.static_shape[axis]
        shape[axis] = extent
        target = emitter.new(output) if axis == found[-1][0] else emitter.scratch(prod(shape))
        indices = emitter.constant(taps.indices.astype(np.int32), (node, axis, "indices"))
        weights = emitter.constant(taps.weights, (node, axis, "weights"), "f32")
        kernel = Taps(source.element_type, target.element_type)
        sizes = [prod(shape), taps.indices.shape[1], length, extent, prod(shape[axis + 1 :])]
        buffers = [source.buffer, indices.buffer, weights.buffer, target.buffer]
        emitter.each(kernel.source, [*buffers, *sizes, outside], prod(shape))
        source = Place(target.buffer, target.element_type, tuple(shape))
