"""Normalisation: across channels, along an axis, and by a factor and a summand for each channel."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node
from cpuruntime.ops import scale_shift
from cpuruntime.ops.lrn import lrn
from cpuruntime.ops.softmax import softmax_kernel
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, clamp_fields, whole_vectors
from cpuruntime.program.plan.lowering import Layout, along, axis_of, lowering, only_float32


def _check_image(node: Node) -> str | None:
    rank = len(node.require(0).static_shape)
    if rank not in (3, 4):
        return f"{node.op_type} has a kernel for 1 and 2 spatial dimensions, not for {rank - 2}"
    return only_float32(node)


@lowering("LRN", layout=Layout.BLOCKED, check=_check_image)
def lower_lrn(emitter: Emitter, node: Node) -> None:
    """Local response normalisation."""
    attributes = node.attributes
    source, target = emitter.blocked(node.require(0)), emitter.new_blocked(node.outputs[0])
    beta = attributes.get("beta", 0.75)
    emitter.emit(
        lrn(beta), "blocked", **source.fields("source"), **target.fields("target"),
        batch=source.batch, channels=source.channels, height=source.height, width=source.width,
        size=attributes["size"], alpha=attributes.get("alpha", 1e-4), beta=beta, bias=attributes.get("bias", 1.0),
    )  # fmt: skip


@lowering("Softmax", "LogSoftmax", check=only_float32)
def lower_softmax(emitter: Emitter, node: Node) -> None:
    """Softmax along one axis."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    emitter.emit(
        softmax_kernel(node.op_type == "LogSoftmax"), "plain", source=source.address, target=target.address,
        **along(source.shape, axis_of(node, -1, len(source.shape))),
    )  # fmt: skip


def _check_scale_shift(node: Node) -> str | None:
    if any(v is None or v.constant is None for v in node.inputs[1:3]):
        return "ScaleShift has a kernel for constant factors and summands"
    return only_float32(node)


@lowering("ScaleShift", domain="cpuruntime", layout=Layout.FOLLOW, check=_check_scale_shift)
def lower_scale_shift(emitter: Emitter, node: Node) -> None:
    """x * scale + shift for each channel, then the activation."""
    value, output = node.require(0), node.outputs[0]
    activation, fields = activation_fields(node)
    kernel, fields = scale_shift.scale_shift_kernel(activation), fields | clamp_fields(node)
    numbers = [node.require(index).data for index in (1, 2)]
    second, third = (emitter.constant(whole_vectors(array, array.size)) for array in numbers)
    if emitter.is_blocked(output):
        source, target = emitter.blocked(value), emitter.new_blocked(output)
        shape = (source.batch, source.blocks, source.height, source.width)
        strides = [(v.batch_stride, v.block_stride, v.row_stride) for v in (source, target)]
        nest = scale_shift.blocked(shape, *strides)
        addresses = source.address, target.address
        layout = "blocked"
    else:
        source_plain, target_plain = emitter.plain(value), emitter.new_plain(output)
        outer, channels, *inner = source_plain.shape
        nest = scale_shift.plain(outer, channels, prod(inner))
        addresses = source_plain.address, target_plain.address
        layout = "plain"
    emitter.emit(
        kernel, layout, **nest, first=addresses[0], target=addresses[1], second=second, third=third, **fields
    )
