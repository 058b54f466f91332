"""What elementwise operators compute, in the instructions of fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from math import frexp

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.traits import traits_of
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.fused import BOOL, FLOAT, FUNCTIONS
from cpuruntime.passes.operators import all_f32, is_internal, is_onnx, scalar
from cpuruntime.passes.simplify.clamps import clip_bounds
from cpuruntime.records import record


@record
class Earlier:
    """The result of an earlier instruction of the same operator, counted from its first."""

    index: int


Operand = Value | np.ndarray | float | Earlier
"""A value of the graph, a new constant, a number, or an earlier result."""

Spelling = list[tuple[str, list[Operand]]]
"""Instructions by the names of `ops.fused.FUNCTIONS`; the last one's result is the operator's."""

_KINDS = {Type.f32: FLOAT, Type.boolean: BOOL}


def spell(node: Node) -> Spelling | None:
    """The instructions of an elementwise operator on float32, bool or bytes; None for any other node."""
    if len(node.outputs) != 1 or not node.outputs[0].is_static:
        return None
    if is_internal(node, "Dequantise", "Quantise"):
        return _SPECIAL[node.op_type](node)
    if is_internal(node, "Add", "ScaleShift"):
        return _SPECIAL[node.op_type](node) + _activation(node)
    if not traits_of(node).elementwise:
        return None
    if node.op_type in ACTIVATIONS and all_f32(*node.inputs):
        return _unary(node)
    if node.op_type in FUNCTIONS and [_kind(value) for value in node.inputs] == list(FUNCTIONS[node.op_type].takes):
        return _SPECIAL.get(node.op_type, _plain)(node)
    return _cast(node) if is_onnx(node, "Cast") else None


def _kind(value: Value | None) -> str | None:
    return None if value is None else _KINDS.get(value.element_type)


def _operand(value: Value | None) -> Operand:
    number = scalar(value) if value.element_type is Type.f32 else None
    return value if number is None else number


def _plain(node: Node) -> Spelling:
    return [(node.op_type, [_operand(value) for value in node.inputs])]


def _unary(node: Node) -> Spelling | None:
    op = node.op_type
    if op == "Gelu" and node.attributes.get("approximate", "none") == "tanh":
        op = "GeluTanh"
    numbers: list[Operand]
    if op == "Clip":
        bounds = clip_bounds(node)
        if bounds is None:
            return None
        numbers = list(bounds)
    else:
        numbers = [float(node.attributes.get(name, default)) for name, default in ACTIVATIONS[op].parameters.items()]
    return [(op, [_operand(node.inputs[0]), *numbers])]


def _activation(node: Node) -> Spelling:
    """The activation of an operator of the passes, on the result of the instruction before."""
    op = node.attributes["activation"]
    if not op:
        return []
    numbers = list(node.attributes["activation_arguments"]) or list(ACTIVATIONS[op].parameters.values())
    return [(op, [Earlier(-1), *numbers])]


def _power(node: Node) -> Spelling:
    base, exponent = (_operand(value) for value in node.inputs)
    if exponent == 2:
        return [("Square", [base])]
    if exponent == 3:
        return [("Square", [base]), ("Mul", [Earlier(-1), base])]
    return [("Sqrt", [base])] if exponent == 0.5 else _plain(node)


def _quotient(node: Node) -> Spelling:
    """A product where the reciprocal is exact."""
    divisor = _operand(node.inputs[1])
    if isinstance(divisor, float) and abs(frexp(divisor)[0]) == 0.5 and 1e-30 < abs(divisor) < 1e30:
        return [("Mul", [_operand(node.inputs[0]), 1 / divisor])]
    return _plain(node)


def _scale_shift(node: Node) -> Spelling:
    x, scale, shift = node.inputs
    shape = (-1, *[1] * (len(x.static_shape) - 2))
    found: Spelling = []
    for op, value, neutral in (("Mul", scale, 1), ("Add", shift, 0)):
        numbers = value.constant
        first: Operand = Earlier(-1) if found else x
        if numbers is None:
            found.append((op, [first, value]))
        elif (numbers != numbers.flat[0]).any():
            found.append((op, [first, numbers.reshape(shape)]))
        elif numbers.flat[0] != neutral:
            found.append((op, [first, float(numbers.flat[0])]))
    return found or [("Add", [x, 0.0])]


def _cast(node: Node) -> Spelling | None:
    types = node.inputs[0].element_type, node.outputs[0].element_type
    names = {(Type.f32, Type.boolean): "ToBool", (Type.boolean, Type.f32): "ToFloat"}
    return [(names[types], [_operand(node.inputs[0])])] if types in names else None


def _dequantise(node: Node) -> Spelling:
    x, a = node.require(0), node.attributes
    return [("RealU8" if x.element_type is Type.u8 else "RealI8", [x, float(a["x_zero"]), a["x_scale"]])]


def _quantise(node: Node) -> Spelling:
    a, zero = node.attributes, node.attributes["y_zero"]
    limits = [float(zero), float(a["low"] - zero), float(a["high"] - zero)]
    to = "ToU8" if node.outputs[0].element_type is Type.u8 else "ToI8"
    return [("Div", [node.require(0), a["y_scale"]]), (to, [Earlier(-1), *limits])]


_SPECIAL: dict[str, Callable[[Node], Spelling]] = {
    "Add": _plain,
    "Dequantise": _dequantise,
    "Quantise": _quantise,
    "Div": _quotient,
    "Pow": _power,
    "ScaleShift": _scale_shift,
}
