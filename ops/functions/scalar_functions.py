"""Elementwise functions on single values, for the element types and operators without a vector function.

Integers wrap. Integer division truncates; by zero it gives zero. float64 Max and Min keep NaN, as does Relu. A shift
by a negative number, or by as many bits as there are or more, moves all bits out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Inline, inline, lazy
from cpuruntime.compiler.typed import FLOATS, INTEGERS, SIGNED, SIZES
from cpuruntime.ops.functions import double_math

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


def _divide_unsigned(x, y):
    return x // y if y != 0 else y


def _remainder_unsigned(x, y):
    return x % y if y != 0 else y


def _power_signed(x, y):
    """x to the power y, wrapping; for a negative y the whole part of the fraction."""
    if y < 0:
        return 0 if x not in (1, -1) else (x if y & 1 else 1)
    result = 1
    while y > 0:
        if y & 1:
            result *= x
        x *= x
        y >>= 1
    return result


def _power_unsigned(x, y):
    result = np.uint64(1)
    while y > 0:
        if y & np.uint64(1):
            result *= x
        x *= x
        y >>= np.uint64(1)
    return result


def _shift_left(bits: int) -> Callable[..., Any]:
    return lambda x, y: x << y if 0 <= y < bits else x - x


def _shift_right(bits: int) -> Callable[..., Any]:
    """A negative number is filled with ones."""
    return lambda x, y: x >> y if 0 <= y < bits else (x - x if x >= 0 else ~(x - x))


def _shifts() -> dict[tuple[str, str], Inline]:
    made = {"ShiftLeft": _shift_left, "ShiftRight": _shift_right}
    return {(op, t): inline(make(8 * SIZES[t])) for op, make in made.items() for t in INTEGERS}


def _each(types: Sequence[str], **functions: Callable[..., Any]) -> dict[tuple[str, str], Inline]:
    """The functions, by operator, for each of the element types."""
    return {(op, t): inline(function) for op, function in functions.items() for t in types}


NUMBERS = ("float64", *INTEGERS)
UNSIGNED = tuple(name for name in INTEGERS if name not in SIGNED)
# The processor divides integers one by one: vector code for these is only longer.
SERIAL = {"Div", "FMod", "Mod", "Pow"}

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
    **_each(("float64",), Sign=lambda x: x if x != x else (x > 0) - 1.0 * (x < 0)),
    ("Ceil", "float64"): double_math.round_up,
    ("Exp", "float64"): double_math.exp,
    ("Floor", "float64"): double_math.round_down,
    ("Log", "float64"): double_math.natural_log,
    ("Round", "float64"): double_math.round_even,
    ("Sigmoid", "float64"): double_math.sigmoid,
    ("Tanh", "float64"): double_math.tanh,
    **_each(UNSIGNED, Abs=lambda x: x, Sign=lambda x: np.uint64(x > 0)),
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
    **_each(UNSIGNED, Div=_divide_unsigned, Mod=_remainder_unsigned, FMod=_remainder_unsigned, Pow=_power_unsigned),
    **_each(SIGNED, Pow=_power_signed),
    **_each(("float64",), Div=lambda x, y: x / y),
    ("Pow", "float64"): double_math.power,
    **{("Mod", t): double_math.remainder for t in FLOATS},
    **{("FMod", t): double_math.remainder_truncating for t in FLOATS},
    **_shifts(),
    **_COMPARISONS,
}
