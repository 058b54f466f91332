"""Reductions along axes, ArgMax and ArgMin."""

from __future__ import annotations

from cpuruntime.compiler.typed import FLOATS, INTEGERS
from cpuruntime.graph import Node
from cpuruntime.ops.argmax import argmax_kernel
from cpuruntime.ops.reduce import REDUCTIONS, reduce_kernel, reduction
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import along, axis_of, dtype_name, lowering

OPERATORS = sorted({op for op, _ in REDUCTIONS})
_UNCHANGED = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")  # by reducing no axes


def _axes(node: Node) -> list[int] | None:
    """The reduced axes, not negative; None when they are not known."""
    rank = len(node.require(0).static_shape)
    given, value = node.attributes.get("axes"), node.input(1)
    if value is not None:
        if value.numbers is None:
            return None
        given = list(map(int, value.numbers))
    if not given:
        return [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in given)


def _kernel_type(node: Node) -> str:
    """The element type of the kernel; the largest and smallest of flags are those of bytes."""
    name = dtype_name(node.require(0))
    return "uint8" if name == "bool" and node.op_type in ("ReduceMax", "ReduceMin") else name


def _check(node: Node) -> str | None:
    value = node.require(0)
    if (node.op_type, _kernel_type(node)) not in REDUCTIONS:
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    axes = _axes(node)
    if axes is None:
        return f"{node.op_type} has a kernel for known axes only"
    if not axes and value.static_shape and node.op_type not in _UNCHANGED:
        return f"{node.op_type} has no kernel for no axes"
    try:
        reduction(value.static_shape, axes)
    except ValueError as error:
        return f"{node.op_type} has no kernel for these axes: {error}"
    return None


@lowering(*OPERATORS, check=_check)
def lower_reduction(emitter: Emitter, node: Node) -> None:
    """Sums, means, extremes and norms over axes."""
    axes = _axes(node)
    assert axes is not None
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    kernel = reduce_kernel(node.op_type, _kernel_type(node))
    emitter.emit(kernel, "plain", source=source.address, target=target.address, **reduction(source.shape, axes))


def _check_extreme(node: Node) -> str | None:
    value = node.require(0)
    if dtype_name(value) not in (*FLOATS, *INTEGERS):
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    if 0 in value.static_shape or not value.static_shape:
        return f"{node.op_type} has no kernel for empty tensors and single numbers"
    return None


@lowering("ArgMax", "ArgMin", check=_check_extreme)
def lower_argmax(emitter: Emitter, node: Node) -> None:
    """The index along an axis."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    largest, last = node.op_type == "ArgMax", bool(node.attributes.get("select_last_index", 0))
    kernel = argmax_kernel(largest, last, source.dtype.name)
    sizes = along(source.shape, axis_of(node, 0, len(source.shape)))
    emitter.emit(kernel, "plain", source=source.address, target=target.address, **sizes)
