"""Elementwise operators: unary, binary with broadcasting, Where, Cast."""

from __future__ import annotations

from math import inf

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.typed import SIZES
from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.evaluate import evaluate
from cpuruntime.operators.traits import traits_of
from cpuruntime.ops.elementwise import BINARY, UNARY, binary_kernel, cast_kernel, unary_kernel, where_kernel
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.table_cast import table_cast
from cpuruntime.ops.tiles import loops
from cpuruntime.program.plan.elementwise_steps import apply_activation, emit_elementwise
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, clamp_fields, parameter_fields
from cpuruntime.program.plan.lowering import Layout, dtype_name, is_movable, lowering

# Kernels for some values of an attribute.
VARIANTS = {"FMod", "ShiftLeft", "ShiftRight"}
BINARY_OPERATORS = sorted({op for op, _ in BINARY} - VARIANTS | {"BitShift"})
UNARY_OPERATORS = sorted({op for op, _ in UNARY} - {"GeluTanh", "Silu", "Square"})


def _kernel_name(node: Node) -> str:
    """The kernel's name for an operator; variants of one operator have names of their own."""
    if node.op_type == "Gelu" and node.attributes.get("approximate", "none") == "tanh":
        return "GeluTanh"
    if node.op_type == "Mod" and node.attributes.get("fmod", 0):
        return "FMod"
    if node.op_type == "BitShift":
        return f"Shift{node.attributes['direction'].capitalize()}"
    return node.op_type


def _clip_bounds(node: Node) -> list[float] | None:
    """The constant bounds of a Clip; None when one of them is not constant."""
    bounds = [-inf, inf]
    for index in (0, 1):
        value = node.input(index + 1)
        if value is not None:
            if value.constant is None or value.constant.size != 1:
                return None
            bounds[index] = float(value.constant.reshape(-1)[0])
    return bounds


def _follows(node: Node) -> bool:
    whole = node.outputs[0].static_shape[1] % LANES == 0
    return node.require(0).element_type == Type.f32 and (whole or traits_of(node).finite)


def _check_unary(node: Node) -> str | None:
    value = node.require(0)
    if (_kernel_name(node), dtype_name(value)) not in UNARY:
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    if node.op_type == "Clip" and _clip_bounds(node) is None:
        return "Clip has a kernel for constant bounds only"
    return None


def _parameters(node: Node) -> dict[str, float]:
    name = _kernel_name(node)
    if node.op_type == "Clip":
        bounds = _clip_bounds(node)
        assert bounds is not None
        return parameter_fields(name, bounds)
    if name not in ACTIVATIONS:
        return {}
    defaults = ACTIVATIONS[name].parameters
    return parameter_fields(name, [float(node.attributes.get(key, default)) for key, default in defaults.items()])


@lowering(*UNARY_OPERATORS, layout=Layout.FOLLOW, check=_check_unary, follows=_follows)
@lowering("Silu", domain="cpuruntime", layout=Layout.FOLLOW, check=_check_unary, follows=_follows)
def lower_unary(emitter: Emitter, node: Node) -> None:
    """One input, one output of its shape."""
    kernel = unary_kernel(_kernel_name(node), dtype_name(node.require(0)))
    emit_elementwise(emitter, kernel, node.outputs[0], node.inputs[:1], **_parameters(node))


def _too_scattered(node: Node) -> str | None:
    """A check: the broadcast can be walked by the loops there are."""
    shape = node.outputs[0].static_shape
    walks = [loops.contiguous(shape, 1)]
    for value in map(node.require, range(len(node.inputs))):
        walks.append(loops.broadcast(value.static_shape, loops.contiguous(value.static_shape, 1), shape))
    loop_shape, _ = loops.collapse(shape, *walks)
    if len(loop_shape) > loops.DIMENSIONS:
        return f"{node.op_type} has a kernel for {loops.DIMENSIONS} separate dimensions, not for {len(loop_shape)}"
    return None


def _check_binary(node: Node) -> str | None:
    value = node.require(0)
    if (_kernel_name(node), dtype_name(value)) not in BINARY or any(
        v is None or v.element_type != value.element_type for v in node.inputs
    ):
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    if len(node.inputs) != 2:
        return f"{node.op_type} has a kernel for two inputs, not for {len(node.inputs)}"
    return _too_scattered(node)


@lowering(*BINARY_OPERATORS, layout=Layout.FOLLOW, check=_check_binary, follows=_follows)
@lowering("Add", domain="cpuruntime", layout=Layout.FOLLOW, check=_check_binary, follows=_follows)
def lower_binary(emitter: Emitter, node: Node) -> None:
    """Two inputs that broadcast to the output; Add may carry an activation."""
    kernel = binary_kernel(_kernel_name(node), dtype_name(node.require(0)))
    view = emit_elementwise(emitter, kernel, node.outputs[0], node.inputs, **clamp_fields(node))
    if activation_fields(node)[0]:
        apply_activation(emitter, node, view)


def _check_where(node: Node) -> str | None:
    if not is_movable(node.outputs[0]):
        return f"Where has no kernel for {node.outputs[0].element_type.get_type_name()}"
    return _too_scattered(node)


@lowering("Where", check=_check_where)
def lower_where(emitter: Emitter, node: Node) -> None:
    """Elements of the second input where the first is true, of the third elsewhere."""
    emit_elementwise(emitter, where_kernel(node.outputs[0].element_type.size), node.outputs[0], node.inputs)


def _check_cast(node: Node) -> str | None:
    x, y = node.require(0), node.outputs[0]
    names = [dtype_name(x), dtype_name(y)]
    if all(name in SIZES for name in names) or (is_movable(x) and is_movable(y) and _table_key(node)):
        return None
    return f"Cast has no kernel from {names[0]} to {names[1]}"


def _table_key(node: Node) -> str:
    """What stands for a number in the table of a cast from or to few bits; empty where there is no table."""
    x, y = node.require(0).element_type, node.outputs[0].element_type
    if x.size <= 2:
        return f"uint{8 * x.size}"
    return "float32" if x is Type.f32 and y.is_real() else ""


@lowering("Cast", check=_check_cast)
def lower_cast(emitter: Emitter, node: Node) -> None:
    """Another element type."""
    if not {dtype_name(node.require(0)), dtype_name(node.outputs[0])} <= SIZES.keys():
        _emit_table_cast(emitter, node)
        return
    kernel = cast_kernel(dtype_name(node.require(0)), dtype_name(node.outputs[0]))
    emit_elementwise(emitter, kernel, node.outputs[0], node.inputs[:1])


def _emit_table_cast(emitter: Emitter, node: Node) -> None:
    source, target, key = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0]), _table_key(node)
    if key == "float32":
        numbers = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    else:
        numbers = np.arange(1 << 8 * source.dtype.itemsize).astype(key).view(source.dtype)
    emitter.emit(
        table_cast(key), "plain", source=source.address, target=target.address, size=source.size,
        table=emitter.constant(evaluate(node, [numbers])[0]), element=target.dtype.itemsize,
    )  # fmt: skip
