"""Elementwise functions on single values, for the element types and operators without a vector function.

Integers wrap. Integer division truncates; by zero it gives zero. float64 Max and Min keep NaN, as does Relu.
"""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.kernel import Inline, inline, lazy
from cpuruntime.compiler.typed import FLOATS, INTEGERS, SIGNED

scalars = lazy("cpuruntime.compiler.scalars")


@inline
def _add(x, y):
    return x + y


@inline
def _subtract(x, y):
    return x - y


@inline
def _multiply(x, y):
    return x * y


@inline
def _divide(x, y):
    return x / y


@inline
def _divide_truncating(x, y):
    if y == 0:
        return 0
    if y == -1:
        return -x
    quotient = x // y
    return quotient + 1 if quotient < 0 and quotient * y != x else quotient


@inline
def _remainder(x, y):
    """The remainder with the divisor's sign."""
    return 0 if y in (0, -1) else x % y


@inline
def _remainder_truncating(x, y):
    """The remainder with the dividend's sign, as C's fmod."""
    if y in (0, -1):
        return 0
    rest = x % y
    return rest - y if rest != 0 and (rest < 0) != (x < 0) else rest


@inline
def _larger(x, y):
    return x if x > y or x != x else y


@inline
def _smaller(x, y):
    return x if x < y or x != x else y


@inline
def _equal(x, y):
    return x == y


@inline
def _less(x, y):
    return x < y


@inline
def _less_or_equal(x, y):
    return x <= y


@inline
def _greater(x, y):
    return x > y


@inline
def _greater_or_equal(x, y):
    return x >= y


@inline
def _and(x, y):
    return x & y


@inline
def _or(x, y):
    return x | y


@inline
def _xor(x, y):
    return x ^ y


@inline
def _absolute(x):
    return abs(x)


@inline
def _negative(x):
    return -x


@inline
def _relu(x):
    return 0 if x < 0 else x


@inline
def _sign(x):
    return np.int64(x > 0) - np.int64(x < 0)


@inline
def _square_root(x):
    return scalars.square_root(x)


@inline
def _reciprocal(x):
    return 1 / x


@inline
def _not(x):
    return x ^ 1


@inline
def _invert(x):
    return ~x


@inline
def _is_nan(x):
    return x != x


COMPARISONS = {
    "Equal": _equal,
    "Greater": _greater,
    "GreaterOrEqual": _greater_or_equal,
    "Less": _less,
    "LessOrEqual": _less_or_equal,
}
NUMBERS = ("float64", *INTEGERS)
# The processor divides integers one by one: vector code for these is only longer.
SERIAL = {"Div", "FMod", "Mod"}
BOOLEAN_RESULT = {*COMPARISONS, "IsNaN"}

# By operator and element type of the inputs; the result is of the same type, or bool for BOOLEAN_RESULT.
UNARY: dict[tuple[str, str], Inline] = {
    **{("Abs", t): _absolute for t in ("float64", *SIGNED)},
    **{("Neg", t): _negative for t in ("float64", *SIGNED)},
    **{("Relu", t): _relu for t in ("float64", *SIGNED)},
    **{("Sign", t): _sign for t in SIGNED},
    **{("BitwiseNot", t): _invert for t in INTEGERS},
    **{("IsNaN", t): _is_nan for t in FLOATS},
    ("Sqrt", "float64"): _square_root,
    ("Reciprocal", "float64"): _reciprocal,
    ("Not", "bool"): _not,
}
# Mod is ONNX's with fmod=0, FMod the one with fmod=1.
BINARY: dict[tuple[str, str], Inline] = {
    **{("Add", t): _add for t in NUMBERS},
    **{("Sub", t): _subtract for t in NUMBERS},
    **{("Mul", t): _multiply for t in NUMBERS},
    **{("Max", t): _larger for t in NUMBERS},
    **{("Min", t): _smaller for t in NUMBERS},
    **{("Div", t): _divide_truncating for t in SIGNED},
    **{("Mod", t): _remainder for t in SIGNED},
    **{("FMod", t): _remainder_truncating for t in SIGNED},
    **{(op, t): function for op, function in COMPARISONS.items() for t in (*FLOATS, *INTEGERS, "bool")},
    **{(op, "bool"): function for op, function in (("And", _and), ("Or", _or), ("Xor", _xor))},
    **{("BitwiseAnd", t): _and for t in INTEGERS},
    **{("BitwiseOr", t): _or for t in INTEGERS},
    **{("BitwiseXor", t): _xor for t in INTEGERS},
    ("Div", "float64"): _divide,
}
