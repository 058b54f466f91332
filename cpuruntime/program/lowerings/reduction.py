"""Reductions along axes."""

from __future__ import annotations

from cpuruntime.graph import Node
from cpuruntime.ops.reduce import REDUCTIONS, reduce_kernel, reduction
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import dtype_name, lowering

OPERATORS = sorted({op for op, _ in REDUCTIONS})


def _axes(node: Node) -> list[int] | None:
    """The reduced axes, not negative; None when they are not constant."""
    rank = len(node.require(0).static_shape)
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
    value = node.require(0)
    if (node.op_type, dtype_name(value)) not in REDUCTIONS:
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
def lower_reduction(emitter: Emitter, node: Node) -> None:
    """Sums, means, extremes and norms over axes."""
    value = node.require(0)
    axes = _axes(node)
    assert axes is not None
    source, target = emitter.plain(value), emitter.new_plain(node.outputs[0])
    emitter.emit(
        reduce_kernel(node.op_type, source.dtype.name), "plain", source=source.address, target=target.address,
        **reduction(source.shape, axes),
    )  # fmt: skip
