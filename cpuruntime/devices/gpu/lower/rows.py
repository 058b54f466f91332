"""Softmax, norms, reductions."""

from __future__ import annotations

from math import prod

from cpuruntime.devices.gpu.kernels.functions import FUNCTIONS
from cpuruntime.devices.gpu.kernels.rows import Argmax, Norm, Reduce, Softmax
from cpuruntime.devices.gpu.kernels.windows import Lrn
from cpuruntime.devices.gpu.lower.emitter import Emitter
from cpuruntime.devices.gpu.lower.product import activation_of, copied
from cpuruntime.devices.gpu.lower.walks import Walk, contiguous, floats
from cpuruntime.graph import Node, Type


def lower_softmax(emitter: Emitter, node: Node) -> None:
    """Softmax or LogSoftmax along an axis."""
    source, target = emitter.place(node.require(0)), emitter.new(node.outputs[0])
    axis = node.attributes.get("axis", -1) % len(source.shape)
    length, inner = source.shape[axis], prod(source.shape[axis + 1 :])
    kernel = Softmax(
        source.element_type, target.element_type, emitter.tuning.row_group, logarithm=node.op_type == "LogSoftmax"
    )  # fmt: skip
    arguments = [source.buffer, target.buffer, length, inner, 1, 1, 0, 0, 0, 0, 0, 0, 1.0]
    emitter.rows(kernel.source, arguments, source.size // max(length, 1))


def check_softmax(node: Node) -> str | None:
    """Why a softmax has no kernel."""
    return None if node.version >= 13 else f"{node.op_type} has a kernel for opset 13"


def _norm(
    emitter: Emitter, node: Node, length: int, place: str, channels: tuple[int, int, int] = (1, 1, 1),
    activation: tuple[str, tuple[float, ...]] = ("", ()),
) -> None:  # fmt: skip
    source, target = emitter.place(node.require(0)), emitter.new(node.outputs[0])
    scale, shift = (value and floats(emitter, value) for value in (node.input(1), node.input(2)))
    kernel = Norm(
        source.element_type, target.element_type, emitter.tuning.row_group, node.op_type == "RmsNorm",
        place if scale else "", place if shift else "", *activation,
    )  # fmt: skip
    buffers = [each.buffer for each in (source, target, scale, shift) if each is not None]
    arguments = [*buffers, length, 1, *channels, float(node.attributes["epsilon"])]
    emitter.rows(kernel.source, arguments, source.size // max(length, 1))


def lower_layer_norm(emitter: Emitter, node: Node) -> None:
    """LayerNorm and RmsNorm over the axes from `axis` on."""
    _norm(emitter, node, prod(node.require(0).static_shape[node.attributes["axis"] :]), "each")


def lower_group_norm(emitter: Emitter, node: Node) -> None:
    """Groups of channels, with factors for each channel and an activation."""
    shape, groups = node.require(0).static_shape, node.attributes["groups"]
    channels, spatial = shape[1] // groups, prod(shape[2:])
    _norm(emitter, node, channels * spatial, "channel", (groups, channels, spatial), activation_of(node))


def check_group_norm(node: Node) -> str | None:
    """Why a GroupNorm has no kernel."""
    activation = node.attributes["activation"]
    return None if activation in FUNCTIONS else f"no kernel for GroupNorm followed by {activation}"


_GLOBAL = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


def _axes(node: Node) -> list[int]:
    rank = len(node.require(0).static_shape)
    if node.op_type in _GLOBAL:
        return list(range(2, rank))
    value = node.input(1)
    axes = node.attributes.get("axes") if value is None else value.numbers
    if not axes:
        return [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in axes})


def lower_reduce(emitter: Emitter, node: Node) -> None:
    """Reductions along axes, moved side by side where they are not."""
    value = node.require(0)
    shape, axes = value.static_shape, _axes(node)
    source, target = emitter.place(value), emitter.new(node.outputs[0])
    inner = prod(shape[axes[-1] + 1 :]) if axes else 1
    if axes and axes != list(range(axes[0], axes[-1] + 1)):
        order = [axis for axis in range(len(shape)) if axis not in axes] + axes
        strides = contiguous(shape)
        walk = Walk(source, source.begin, tuple(strides[axis] for axis in order))
        source, inner = copied(emitter, walk, tuple(shape[axis] for axis in order)), 1
    op = _GLOBAL.get(node.op_type, node.op_type)
    kernel = Reduce(op, source.element_type, target.element_type, emitter.tuning.row_group)
    length = prod(shape[axis] for axis in axes)
    emitter.rows(kernel.source, [source.buffer, target.buffer, length, inner], target.size)


def check_reduce(node: Node) -> str | None:
    """Why a reduction has no kernel."""
    if node.require(0).element_type != Type.f32:
        return f"{node.op_type} has a kernel for f32"
    if node.input(1) is not None and node.require(1).numbers is None:
        return f"{node.op_type} has a kernel for constant axes"
    return None


def lower_argmax(emitter: Emitter, node: Node) -> None:
    """ArgMax and ArgMin."""
    source, target = emitter.place(node.require(0)), emitter.new(node.outputs[0])
    of, shape = node.attributes, source.shape
    axis = of.get("axis", 0) % len(shape)
    kernel = Argmax(source.element_type, node.op_type == "ArgMin", bool(of.get("select_last_index", 0)))
    sizes = [target.size, shape[axis], prod(shape[axis + 1 :])]
    emitter.each(kernel.source, [source.buffer, target.buffer, *sizes], target.size)


def check_argmax(node: Node) -> str | None:
    """Why an ArgMax or ArgMin has no kernel."""
    value = node.require(0)
    if value.element_type != Type.f32 or 0 in value.static_shape:
        return f"{node.op_type} has a kernel for f32 that is not empty"
    return None


def lower_lrn(emitter: Emitter, node: Node) -> None:
    """Local response normalisation across channels."""
    source, target = emitter.place(node.require(0)), emitter.new(node.outputs[0])
    of, size = node.attributes, node.attributes["size"]
    kernel = Lrn(source.element_type, target.element_type)
    sizes = [target.size, target.shape[1], prod(target.shape[2:]), (size - 1) // 2, size // 2]
    numbers = [of.get("alpha", 1e-4) / size, of.get("beta", 0.75), of.get("bias", 1.0)]
    emitter.each(kernel.source, [source.buffer, target.buffer, *sizes, *map(float, numbers)], target.size)
