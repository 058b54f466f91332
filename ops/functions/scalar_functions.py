"""Elementwise functions on single values, for the element types and operators without a vector function.

Integers wrap. Integer division truncates; by zero it gives zero. float64 Max and Min keep NaN, as does Relu.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Inline, inline, lazy
from cpuruntime.compiler.typed import FLOATS, INTEGERS, SIGNED

scalars = lazy("cpuruntime.compiler.scalars")


def _divide_truncating(x, y):
    if y == 0:
        return 0
    if y == -1:
        return -x
    quotient = x // y
    return quotient + 1 if quotient < 0 and quotient * y != x else quotient


def _remainder(x, y):
    """The remainder with the divisor's sign."""
    return 0 if y in (0, -1) else x % y


def _remainder_truncating(x, y):
    """The remainder with the dividend's sign, as C's fmod."""
    if y in (0, -1):
        return 0
    rest = x % y
    return rest - y if rest != 0 and (rest < 0) != (x < 0) else rest


def _each(types: Sequence[str], **functions: Callable[..., Any]) -> dict[tuple[str, str], Inline]:
    """The functions, by operator, for each of the element types."""
    return {(op, t): inline(function) for op, function in functions.items() for t in types}


NUMBERS = ("float64", *INTEGERS)
# The processor divides integers one by one: vector code for these is only longer.
SERIAL = {"Div", "FMod", "Mod"}

_COMPARISONS = _each(
    (*FLOATS, *INTEGERS, "bool"),
    Equal=lambda x, y: x == y,
    Greater=lambda x, y: x > y,
    GreaterOrEqual=lambda x, y: x >= y,
    Less=lambda x, y: x < y,
    LessOrEqual=lambda x, y: x <= y,
)
BOOLEAN_RESULT = {"IsNaN", *(op for op, _ in _COMPARISONS)}

# By operator and element type of the inputs; the result is of the same type, or bool for BOOLEAN_RESULT.
UNARY: dict[tuple[str, str], Inline] = {
    **_each(("float64", *SIGNED), Abs=lambda x: abs(x), Neg=lambda x: -x, Relu=lambda x: 0 if x < 0 else x),
    **_each(("float64",), Sqrt=lambda x: scalars.square_root(x), Reciprocal=lambda x: 1 / x),
    **_each(SIGNED, Sign=lambda x: np.int64(x > 0) - np.int64(x < 0)),
    **_each(INTEGERS, BitwiseNot=lambda x: ~x),
    **_each(FLOATS, IsNaN=lambda x: x != x),
    **_each(("bool",), Not=lambda x: x ^ 1),
}
# Mod is ONNX's with fmod=0, FMod the one with fmod=1.
BINARY: dict[tuple[str, str], Inline] = {
    **_each(NUMBERS, Add=lambda x, y: x + y, Sub=lambda x, y: x - y, Mul=lambda x, y: x * y),
    **_each(NUMBERS, Max=lambda x, y: x if x > y or x != x else y, Min=lambda x, y: x if x < y or x != x else y),
    **_each(SIGNED, Div=_divide_truncating, Mod=_remainder, FMod=_remainder_truncating),
    **_each(INTEGERS, BitwiseAnd=lambda x, y: x & y, BitwiseOr=lambda x, y: x | y, BitwiseXor=lambda x, y: x ^ y),
    **_each(("bool",), And=lambda x, y: x & y, Or=lambda x, y: x | y, Xor=lambda x, y: x ^ y),
    **_each(("float64",), Div=lambda x, y: x / y),
    **_COMPARISONS,
}
