"""Operators by element: arithmetic, comparisons, logic, elementary functions, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, is_float, optional, wide


def _unary(function: Callable[..., Any], *names: str) -> Rule:
    """A function of one number, with these attributes as its other arguments."""

    def run(node: Node, arrays: Arrays) -> np.ndarray:
        x = arrays[0]
        return np.asarray(function(wide(x), *(attribute(node, name) for name in names))).astype(x.dtype)

    return run


def _binary(function: Callable[..., Any]) -> Rule:
    def run(node: Node, arrays: Arrays) -> np.ndarray:
        a, b = arrays
        return np.asarray(function(wide(a), wide(b))).astype(a.dtype)

    return run


def _compare(function: Callable[..., Any]) -> Rule:
    def run(node: Node, arrays: Arrays) -> np.ndarray:
        return np.asarray(function(wide(arrays[0]), wide(arrays[1]))).astype(np.bool_)

    return run


def _variadic(function: Callable[..., Any]) -> Rule:
    def run(node: Node, arrays: Arrays) -> np.ndarray:
        return np.asarray(reduce(function, map(wide, arrays))).astype(arrays[0].dtype)

    return run


def _mean(node: Node, arrays: Arrays) -> np.ndarray:
    return np.asarray(reduce(np.add, map(wide, arrays)) / len(arrays)).astype(arrays[0].dtype)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quotient of integers is truncated."""
    if is_float(a.dtype):
        return np.true_divide(a, b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def _mod(node: Node, arrays: Arrays) -> np.ndarray:
    a, b = arrays
    return np.asarray((np.fmod if attribute(node, "fmod") else np.mod)(wide(a), wide(b))).astype(a.dtype)


def _pow(node: Node, arrays: Arrays) -> np.ndarray:
    base, exponent = wide(arrays[0]), wide(arrays[1])
    if not is_float(base.dtype) and (is_float(exponent.dtype) or (exponent < 0).any()):
        result = np.power(base.astype(np.float64), exponent)
    elif is_float(base.dtype):
        result = np.power(base, exponent if is_float(exponent.dtype) else exponent.astype(np.float64))
    else:
        result = np.power(base, exponent.astype(base.dtype))
    return np.asarray(result).astype(arrays[0].dtype)


def _shift(node: Node, arrays: Arrays) -> np.ndarray:
    x, count = arrays
    width = 8 * x.dtype.itemsize
    if attribute(node, "direction") == "LEFT":
        return np.where(count < width, np.left_shift(x, count), 0).astype(x.dtype)
    return np.where(count < width, np.right_shift(x, count), np.where(x < 0, -1, 0)).astype(x.dtype)


def _clip(node: Node, arrays: Arrays) -> np.ndarray:
    x = wide(arrays[0])
    low, high = (attribute(node, name) if node.version < 11 else optional(arrays, index + 1)
                 for index, name in enumerate(("min", "max")))  # fmt: skip
    x = x if low is None else np.maximum(x, np.asarray(low).astype(x.dtype))
    x = x if high is None else np.minimum(x, np.asarray(high).astype(x.dtype))
    return np.asarray(x).astype(arrays[0].dtype)


def _is_inf(node: Node, arrays: Arrays) -> np.ndarray:
    x = wide(arrays[0])
    positive = np.isposinf(x) & bool(attribute(node, "detect_positive"))
    return positive | (np.isneginf(x) & bool(attribute(node, "detect_negative")))


def _where(node: Node, arrays: Arrays) -> np.ndarray:
    condition, x, y = arrays
    return np.where(condition, x, y).astype(x.dtype)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(_ERF(x.astype(np.float64)), np.float64)


_ERF = np.frompyfunc(math.erf, 1, 1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """Without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _shrink(x: np.ndarray, lambd: float, bias: float) -> np.ndarray:
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


def _celu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))


def _prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.where(x < 0, x * slope, x)


def _swiglu(node: Node, arrays: Arrays) -> np.ndarray:
    gate, value = wide(arrays[0]), wide(arrays[1])
    return (gate * _sigmoid(attribute(node, "alpha") * gate) * value).astype(arrays[0].dtype)


TABLE: dict[str, Rule] = {
    "Abs": _unary(np.abs),
    "Acos": _unary(np.arccos),
    "Acosh": _unary(np.arccosh),
    "Add": _binary(np.add),
    "And": _compare(np.logical_and),
    "Asin": _unary(np.arcsin),
    "Asinh": _unary(np.arcsinh),
    "Atan": _unary(np.arctan),
    "Atanh": _unary(np.arctanh),
    "BitShift": _shift,
    "BitwiseAnd": _binary(np.bitwise_and),
    "BitwiseNot": _unary(np.invert),
    "BitwiseOr": _binary(np.bitwise_or),
    "BitwiseXor": _binary(np.bitwise_xor),
    "Ceil": _unary(np.ceil),
    "Celu": _unary(_celu, "alpha"),
    "Clip": _clip,
    "Cos": _unary(np.cos),
    "Cosh": _unary(np.cosh),
    "Div": _binary(_divide),
    "Elu": _unary(lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x), "alpha"),
    "Equal": _compare(np.equal),
    "Erf": _unary(_erf),
    "Exp": _unary(np.exp),
    "Floor": _unary(np.floor),
    "Gelu": _unary(_gelu, "approximate"),
    "Greater": _compare(np.greater),
    "GreaterOrEqual": _compare(np.greater_equal),
    "HardSigmoid": _unary(lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), "alpha", "beta"),
    "HardSwish": _unary(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "IsInf": _is_inf,
    "IsNaN": lambda node, arrays: np.isnan(wide(arrays[0])),
    "LeakyRelu": _unary(lambda x, alpha: np.where(x < 0, alpha * x, x), "alpha"),
    "Less": _compare(np.less),
    "LessOrEqual": _compare(np.less_equal),
    "Log": _unary(np.log),
    "Max": _variadic(np.maximum),
    "Mean": _mean,
    "Min": _variadic(np.minimum),
    "Mish": _unary(lambda x: x * np.tanh(_softplus(x))),
    "Mod": _mod,
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": lambda node, arrays: np.logical_not(arrays[0]),
    "Or": _compare(np.logical_or),
    "PRelu": _binary(_prelu),
    "Pow": _pow,
    "Reciprocal": _unary(np.reciprocal),
    "Relu": _unary(lambda x: np.maximum(x, 0)),
    "Round": _unary(np.rint),
    "Selu": _unary(lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(x)), "alpha", "gamma"),
    "Shrink": _unary(_shrink, "lambd", "bias"),
    "Sigmoid": _unary(_sigmoid),
    "Sign": _unary(np.sign),
    "Sin": _unary(np.sin),
    "Sinh": _unary(np.sinh),
    "Softplus": _unary(_softplus),
    "Softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Sum": _variadic(np.add),
    "SwiGLU": _swiglu,
    "Swish": _unary(lambda x, alpha: x * _sigmoid(alpha * x), "alpha"),
    "Tan": _unary(np.tan),
    "Tanh": _unary(np.tanh),
    "ThresholdedRelu": _unary(lambda x, alpha: np.where(x > alpha, x, 0), "alpha"),
    "Where": _where,
    "Xor": _compare(np.logical_xor),
}
