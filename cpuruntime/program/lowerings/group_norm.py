"""Instance and group normalisation: three steps, the last of which applies the activation too."""

from __future__ import annotations

from math import inf

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node
from cpuruntime.ops.group_norm import channel_moments, group_factors
from cpuruntime.ops.scale_shift import scale_shift_kernel
from cpuruntime.ops.tiles.loops import nest
from cpuruntime.program.lowerings.elementwise_steps import blocked_shape, blocked_walk, parameter_fields
from cpuruntime.program.plan.epilogue import clamp_limits, padded_bias
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Address


@lowering("GroupNorm", domain="cpuruntime", layout=Layout.BLOCKED)
def lower_group_norm(planner: Planner, node: Node) -> None:
    """Emits the moments of channels, the factors of groups, and the scaling."""
    x, scale_value, shift_value, _ = node.inputs
    assert x is not None
    assert scale_value is not None
    source, target = planner.blocked(x), planner.new_blocked(node.outputs[0])
    parameters = [padded_bias(v.constant if v is not None else None, source.channels, LANES) for v in
                  (scale_value, shift_value)]  # fmt: skip
    weights, bias = (planner.weights.constant(planner.weights.identity(p), p) for p in parameters)
    row = source.blocks * VECTOR_BYTES
    moments, scale, shift = (Address(planner.scratch(source.batch * row * n)) for n in (2, 1, 1))
    sizes = dict(batch=source.batch, blocks=source.blocks)
    planner.emit(
        channel_moments, "blocked", **source.fields("source"), moments=moments, height=source.height,
        width=source.width, **sizes,
    )  # fmt: skip
    planner.emit(
        group_factors, "blocked", moments=moments, weights=weights, bias=bias, scale=scale, shift=shift,
        channels=source.channels, groups=node.attributes["groups"], epsilon=node.attributes["epsilon"], **sizes,
    )  # fmt: skip
    (first, first_strides), (place, strides) = blocked_walk(source), blocked_walk(target)
    channel = (row, VECTOR_BYTES, 0, 0, 4)
    walk = nest(
        blocked_shape(target), repeat=True, target=strides, first=first_strides, second=channel, third=channel
    )
    kernel, fields = _activation(node)
    planner.emit(
        scale_shift_kernel(kernel), "blocked", **walk, target=place, first=first, second=scale, third=shift, **fields
    )


def _activation(node: Node) -> tuple[str, dict[str, float]]:
    """The scaling kernel's activation, and the fields of the node's own or of its limits."""
    clamp = clamp_limits(node)
    if clamp is None:
        activation = node.attributes["activation"]
        return activation, parameter_fields(activation, node.attributes["activation_arguments"])
    return "", {} if clamp == (-inf, inf) else dict(clamp=1, low=clamp[0], high=clamp[1])
