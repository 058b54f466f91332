"""ArgMax and ArgMin."""

from __future__ import annotations

from cpuruntime.graph import Node, Type
from cpuruntime.ops.argmax import arg_extreme
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import along, axis_of, lowering


def _check(node: Node) -> str | None:
    value = node.require(0)
    if value.element_type != Type.f32:
        return f"{node.op_type} has a kernel for f32, not for {value.element_type.get_type_name()}"
    if 0 in value.static_shape or not value.static_shape:
        return f"{node.op_type} has no kernel for empty tensors and single numbers"
    return None


@lowering("ArgMax", "ArgMin", check=_check)
def lower_extreme(emitter: Emitter, node: Node) -> None:
    """The index along an axis."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    last = bool(node.attributes.get("select_last_index", 0))
    emitter.emit(
        arg_extreme(node.op_type == "ArgMax", last), "plain", source=source.address, target=target.address,
        **along(source.shape, axis_of(node, 0, len(source.shape))),
    )  # fmt: skip
