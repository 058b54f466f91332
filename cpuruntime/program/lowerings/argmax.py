"""ArgMax and ArgMin."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node, Type
from cpuruntime.ops.argmax import arg_extreme
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.planner import Planner


def _check(node: Node) -> str | None:
    value = node.inputs[0]
    assert value is not None
    if value.element_type != Type.f32:
        return f"{node.op_type} has a kernel for f32, not for {value.element_type.get_type_name()}"
    if 0 in value.static_shape or not value.static_shape:
        return f"{node.op_type} has no kernel for empty tensors and single numbers"
    return None


@lowering("ArgMax", "ArgMin", check=_check)
def lower_extreme(planner: Planner, node: Node) -> None:
    """The index along an axis."""
    value = node.inputs[0]
    assert value is not None
    source, target = planner.plain(value), planner.new_plain(node.outputs[0])
    axis = node.attributes.get("axis", 0) % len(source.shape)
    last = bool(node.attributes.get("select_last_index", 0))
    planner.emit(
        arg_extreme(node.op_type == "ArgMax", last), "plain", source=source.address, target=target.address,
        outer=prod(source.shape[:axis]), length=source.shape[axis], inner=prod(source.shape[axis + 1 :]),
    )  # fmt: skip
