"""Operators by element, and casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from evaluation.variants.variant import Draw, Variant
from onnx import defs

from cpuruntime.graph import Type

_FLOATS = (np.float32, np.float32, np.float32, np.float64, np.float16)


def types(op_type: str, opset: int, index: int = 0) -> list[np.dtype]:
    """The types that an input may have and that NumPy knows."""
    formal = defs.get_schema(op_type, opset, "").inputs[index]
    known = {f"tensor({name})": dtype for name, dtype in _BY_NAME.items()}
    return [known[name] for name in sorted(formal.types) if name in known]


_BY_NAME = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_, "int8": np.int8,
    "int16": np.int16, "int32": np.int32, "int64": np.int64, "uint8": np.uint8, "uint16": np.uint16,
    "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip

# attribute: the values that it may be drawn from
_ATTRIBUTES: dict[str, dict[str, tuple[Any, ...]]] = {
    "Celu": {"alpha": (0.3, 1.0, 2.5)},
    "Elu": {"alpha": (0.3, 1.0, 2.5)},
    "Gelu": {"approximate": ("none", "tanh")},
    "HardSigmoid": {"alpha": (0.1, 0.3), "beta": (0.2, 0.6)},
    "IsInf": {"detect_negative": (0, 1), "detect_positive": (0, 1)},
    "LeakyRelu": {"alpha": (0.01, 0.3, -0.2)},
    "Mod": {"fmod": (0, 1)},
    "Selu": {"alpha": (0.5, 1.5), "gamma": (0.5, 1.2)},
    "Shrink": {"lambd": (0.3, 0.6), "bias": (0.0, 0.2)},
    "ThresholdedRelu": {"alpha": (0.3, 1.0)},
}
_POSITIVE = ("Log", "Sqrt", "Acosh")
_SMALL = ("Acos", "Asin", "Atanh")


def _unary(op_type: str, d: Draw) -> Variant:
    opset = d.opset(op_type)
    dtype = d.choose(*types(op_type, opset))
    shape = d.shape()
    x = d.array(shape, dtype, special=0.1)
    if op_type in _POSITIVE:
        x = np.abs(x) + (x.dtype.type(1) if op_type == "Acosh" else x.dtype.type(0))
    elif op_type in _SMALL:
        x = np.clip(x, -1, 1)
    attributes = {name: d.choose(*values) for name, values in _ATTRIBUTES.get(op_type, {}).items() if d.chance(0.7)}
    return Variant(op_type, opset, [x], attributes)


def broadcastable(d: Draw, shape: list[int]) -> list[int]:
    """A shape that broadcasts to the other."""
    shape = [1 if d.chance(0.25) else extent for extent in shape]
    return shape[d.number(0, len(shape)) if d.chance(0.3) else 0 :]


def _binary(op_type: str, d: Draw) -> Variant:
    opset = d.opset(op_type)
    dtype = d.choose(*types(op_type, opset))
    shape = d.shape()
    a, b = d.array(broadcastable(d, shape), dtype, special=0.05), d.array(broadcastable(d, shape), dtype)
    if op_type in ("Div", "Mod") and a.dtype.kind in "iu":
        b = np.where(b == 0, np.ones((), b.dtype), b)
    attributes = {name: d.choose(*values) for name, values in _ATTRIBUTES.get(op_type, {}).items() if d.chance(0.7)}
    if op_type == "Mod" and a.dtype.kind == "f":
        attributes["fmod"] = 1
    return Variant(op_type, opset, [a, b], attributes)


def _variadic(op_type: str, d: Draw) -> Variant:
    opset = d.opset(op_type)
    dtype, shape = d.choose(*types(op_type, opset)), d.shape()
    shapes = [broadcastable(d, shape) if opset >= 8 else shape for _ in range(d.number(1, 4))]
    arrays = [d.array(each, dtype, special=0.05) for each in shapes]
    return Variant(op_type, opset, arrays)


def _pow(d: Draw) -> Variant:
    opset, shape = d.opset("Pow"), d.shape()
    dtype = d.choose(*types("Pow", opset))
    other = d.choose(*types("Pow", opset, 1)) if opset >= 12 else dtype
    a, b = d.array(broadcastable(d, shape), dtype), d.array(broadcastable(d, shape), other, 0.4)
    if a.dtype.kind in "iu":
        a, b = np.clip(a, 0, 4).astype(dtype), np.clip(np.abs(b), 0, 3).astype(other)
    return Variant("Pow", opset, [a, b])


def _shift(d: Draw) -> Variant:
    opset, shape = d.opset("BitShift"), d.shape()
    dtype = d.choose(*types("BitShift", opset))
    x = d.array(broadcastable(d, shape), dtype)
    return Variant("BitShift", opset, [x, np.minimum(d.array(broadcastable(d, shape), dtype), 7).astype(dtype)],
                   {"direction": d.choose("LEFT", "RIGHT")})  # fmt: skip


def _clip(d: Draw) -> Variant:
    opset = d.opset("Clip")
    x = d.array(d.shape(), d.choose(*types("Clip", opset)), special=0.05)
    low, high = sorted((d.array((), x.dtype), d.array((), x.dtype)))
    if opset < 11:
        return Variant("Clip", opset, [x], d.some(min=float(low), max=float(high)))
    bounds = [np.asarray(bound, x.dtype) if d.chance(0.7) else None for bound in (low, high)]
    return Variant("Clip", opset, [x, *bounds])


def _where(d: Draw) -> Variant:
    opset, shape = d.opset("Where"), d.shape()
    dtype = d.choose(*types("Where", opset, 1))
    x, y = (d.array(broadcastable(d, shape), dtype, special=0.05) for _ in range(2))
    return Variant("Where", opset, [d.array(broadcastable(d, shape), bool), x, y])


def _prelu(d: Draw) -> Variant:
    opset, shape = d.opset("PRelu"), d.shape(1)
    dtype = d.choose(*types("PRelu", opset))
    return Variant("PRelu", opset, [d.array(shape, dtype), d.array(broadcastable(d, shape), dtype)])


_CASTS = ("f32", "f64", "f16", "boolean", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bf16",
          "f8e4m3", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "i4", "u4")  # fmt: skip


def _castable(d: Draw, opset: int) -> tuple[np.ndarray, Type]:
    """Numbers that the other type can hold, but for types of 8 bits that saturate."""
    names = _CASTS[: 12 if opset < 13 else 13 if opset < 19 else 17 if opset < 21 else None]
    source, target = Type(d.choose(*names[:13])), Type(d.choose(*names))
    x = np.rint(d.array(d.shape(), np.float64, 2.0))
    if not (source.is_signed() and target.is_signed()):
        x = np.abs(x)
    if source.is_real() and target.is_real():
        x = x * d.choose(1.0, 0.37, 100.0) * (1 + d.chance(0.2) * d.array((), np.float64, 100.0))
    if target.bitwidth == 4:
        x = np.clip(x, -8 if target.is_signed() else 0, 7)
    return x.astype(source.to_dtype()), target


def _saturation(d: Draw, target: Type) -> dict[str, int]:
    return d.some(saturate=d.number(0, 1)) if target.get_type_name().startswith("f8") else {}


def _cast(d: Draw) -> Variant:
    opset = d.opset("Cast")
    x, target = _castable(d, opset)
    attributes = {"to": target.to_onnx(), **_saturation(d, target)}
    return Variant("Cast", opset, [x], attributes)


def _cast_like(d: Draw) -> Variant:
    opset = d.opset("CastLike")
    x, target = _castable(d, opset)
    return Variant("CastLike", opset, [x, np.zeros(1, target.to_dtype())], _saturation(d, target))


_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Tan Tanh ThresholdedRelu"
)
_BINARY = (
    "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Mod Mul Or Sub Xor"
)

GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    **{op_type: partial(_unary, op_type) for op_type in _UNARY.split()},
    **{op_type: partial(_binary, op_type) for op_type in _BINARY.split()},
    **{op_type: partial(_variadic, op_type) for op_type in ("Max", "Mean", "Min", "Sum")},
    "BitShift": _shift,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
    "PRelu": _prelu,
    "Pow": _pow,
    "Where": _where,
}
