"""Normalisation: across channels, in groups, along axes, and by a factor and a summand for each channel."""

from __future__ import annotations

from math import prod
from typing import Any

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent, Node
from cpuruntime.ops import scale_shift
from cpuruntime.ops.group_norm import channel_moments, group_factors
from cpuruntime.ops.layer_norm import layer_norm
from cpuruntime.ops.lrn import lrn
from cpuruntime.ops.softmax import softmax_kernel
from cpuruntime.program.plan.elementwise_steps import blocked_shape, blocked_walk, emit_nest
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, clamp_fields, whole_vectors
from cpuruntime.program.plan.lowering import Layout, along, axis_of, lowering, only_float32, only_images
from cpuruntime.program.plan.requantise import stored
from cpuruntime.program.plan.storage import Address, Blocked, Plain


@lowering("LRN", layout=Layout.BLOCKED, check=only_images)
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


@lowering("Softmax", domain="cpuruntime")
def lower_stored_softmax(emitter: Emitter, node: Node) -> None:
    """Softmax along the last axis, as bytes."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    sizes = along(source.shape, len(source.shape) - 1)
    if target.size:
        emitter.emit(
            softmax_kernel(stored=True), "plain", source=source.address, target=target.address, **sizes,
            **_stored(emitter, node, sizes["length"]),
        )  # fmt: skip


def _stored(emitter: Emitter, node: Node, length: Extent) -> dict[str, Any]:
    """The fields for rows of so many floats that become bytes."""
    size = (length + LANES) * 4
    scratch = Address(emitter.scratch(size * emitter.threads))
    return dict(scratch=scratch, scratch_size=size, y_scale=node.attributes["y_scale"], **stored(node))


@lowering("LayerNorm", "RmsNorm", domain="cpuruntime")
def lower_layer_norm(emitter: Emitter, node: Node) -> None:
    """Rows of the axes from `axis` on; scale and shift have an element for each element of a row."""
    axis = node.attributes["axis"]
    source, parameters = emitter.plain(node.require(0)), [v and emitter.plain(v).address for v in node.inputs[1:]]
    target, is_stored = emitter.new_plain(node.outputs[0]), "y_scale" in node.attributes
    if target.size:
        length = prod(target.shape[axis:])
        emitter.emit(
            layer_norm(node.op_type == "LayerNorm", is_stored), "plain", source=source.address, target=target.address,
            scale=parameters[0] or 0, shift=parameters[1] or 0, rows=prod(target.shape[:axis]), length=length,
            epsilon=node.attributes["epsilon"], **(_stored(emitter, node, length) if is_stored else {}),
        )  # fmt: skip


@lowering("GroupNorm", domain="cpuruntime", layout=Layout.BLOCKED)
def lower_group_norm(emitter: Emitter, node: Node) -> None:
    """Emits the moments of channels, the factors of groups, and the scaling with the activation."""
    source, target = emitter.blocked(node.require(0)), emitter.new_blocked(node.outputs[0])
    weights, bias = (whole_vectors(emitter, v, source.channels) for v in node.inputs[1:3])
    row = source.blocks * VECTOR_BYTES
    moments, scale, shift = (Address(emitter.scratch(source.batch * row * n)) for n in (2, 1, 1))
    emitter.emit(channel_moments, "blocked", **source.fields("source"), moments=moments, **source.sizes())
    emitter.emit(
        group_factors, "blocked", moments=moments, weights=weights, bias=bias, scale=scale, shift=shift,
        batch=source.batch, blocks=source.blocks, channels=source.channels, groups=node.attributes["groups"],
        epsilon=node.attributes["epsilon"],
    )  # fmt: skip
    activation, fields = activation_fields(node)
    kernel, strides = scale_shift.scale_shift_kernel(activation), (row, VECTOR_BYTES, 0, 0, 4)
    walks = [blocked_walk(source), (scale, strides), (shift, strides)]
    emit_nest(
        emitter, kernel, "blocked", blocked_shape(target), blocked_walk(target), walks, repeat=True,
        **fields, **clamp_fields(node),
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
    second, third = (whole_vectors(emitter, v, value.static_shape[1]) for v in node.inputs[1:3])
    source: Blocked | Plain
    target: Blocked | Plain
    if emitter.is_blocked(output):
        source, target = emitter.blocked(value), emitter.new_blocked(output)
        shape = (source.batch, source.blocks, source.height, source.width)
        layout, nest = "blocked", scale_shift.blocked(shape, source.strides, target.strides)
    else:
        source, target = emitter.plain(value), emitter.new_plain(output)
        outer, channels, *inner = source.shape
        layout, nest = "plain", scale_shift.plain(outer, channels, prod(inner))
    emitter.emit(
        scale_shift.scale_shift_kernel(activation), layout, **nest, first=source.address, target=target.address,
        second=second, third=third, **fields, **clamp_fields(node),
    )  # fmt: skip
