"""Reductions along axes."""

from __future__ import annotations

from cpuruntime.graph import Node, Value
from cpuruntime.ops.reduce import REDUCTIONS, reduce_kernel, reduction
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.planner import Planner

OPERATORS = sorted({op for op, _ in REDUCTIONS})


def _first(node: Node) -> Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _axes(node: Node) -> list[int] | None:
    """The reduced axes, not negative; None when they are not constant."""
    rank = len(_first(node).static_shape)
    given = node.attributes.get("axes")
    value = node.input(1)
    if value is not None:
        if value.constant is None:
            return None
        given = value.constant.reshape(-1).tolist()
    if not given:
        return [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in given)


def _check(node: Node) -> str | None:
    value = _first(node)
    dtype = value.element_type.to_dtype().name
    if (node.op_type, dtype) not in REDUCTIONS:
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    axes = _axes(node)
    if axes is None:
        return f"{node.op_type} has a kernel for constant axes only"
    if not axes or 0 in value.static_shape:
        return f"{node.op_type} has no kernel for no axes or an empty tensor"
    try:
        reduction(value.static_shape, axes)
    except ValueError as error:
        return f"{node.op_type} has no kernel for these axes: {error}"
    return None


@lowering(*OPERATORS, check=_check)
def lower_reduction(planner: Planner, node: Node) -> None:
    """Sums, means, extremes and norms over axes."""
    value = _first(node)
    axes = _axes(node)
    assert axes is not None
    source, target = planner.plain(value), planner.new_plain(node.outputs[0])
    planner.emit(
        reduce_kernel(node.op_type, source.dtype.name), "plain", source=source.address, target=target.address,
        **reduction(source.shape, axes),
    )  # fmt: skip
