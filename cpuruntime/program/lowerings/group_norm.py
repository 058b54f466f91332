"""Instance and group normalisation: three steps, the last of which applies the activation too."""

from __future__ import annotations

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.graph import Node
from cpuruntime.ops.group_norm import channel_moments, group_factors
from cpuruntime.ops.scale_shift import scale_shift_kernel
from cpuruntime.ops.tiles.loops import nest
from cpuruntime.program.plan.elementwise_steps import blocked_shape, blocked_walk
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, clamp_fields, whole_vectors
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.storage import Address


@lowering("GroupNorm", domain="cpuruntime", layout=Layout.BLOCKED)
def lower_group_norm(emitter: Emitter, node: Node) -> None:
    """Emits the moments of channels, the factors of groups, and the scaling."""
    source, target = emitter.blocked(node.require(0)), emitter.new_blocked(node.outputs[0])
    parameters = (whole_vectors(None if v is None else v.constant, source.channels) for v in node.inputs[1:3])
    weights, bias = (emitter.constant(p) for p in parameters)
    row = source.blocks * VECTOR_BYTES
    moments, scale, shift = (Address(emitter.scratch(source.batch * row * n)) for n in (2, 1, 1))
    sizes = dict(batch=source.batch, blocks=source.blocks)
    emitter.emit(
        channel_moments, "blocked", **source.fields("source"), moments=moments, height=source.height,
        width=source.width, **sizes,
    )  # fmt: skip
    emitter.emit(
        group_factors, "blocked", moments=moments, weights=weights, bias=bias, scale=scale, shift=shift,
        channels=source.channels, groups=node.attributes["groups"], epsilon=node.attributes["epsilon"], **sizes,
    )  # fmt: skip
    (first, first_strides), (place, strides) = blocked_walk(source), blocked_walk(target)
    channel = (row, VECTOR_BYTES, 0, 0, 4)
    walk = nest(
        blocked_shape(target), repeat=True, target=strides, first=first_strides, second=channel, third=channel
    )
    activation, fields = activation_fields(node)
    emitter.emit(
        scale_shift_kernel(activation), "blocked", **walk, target=place, first=first, second=scale, third=shift,
        **fields, **clamp_fields(node),
    )  # fmt: skip
