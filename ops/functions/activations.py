"""One-argument functions on float32 vectors, each declared once, for every kernel that applies them.

All of them keep NaN but Shrink and ThresholdedRelu, which give 0 for it as ONNX defines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from cpuruntime.compiler.kernel import Inline, inline, lazy
from cpuruntime.ops.functions import trigonometry, vector_math
from cpuruntime.ops.functions.vector_math import (
    SIGN_BIT,
    exp_or_zero,
    expm1,
    log1p_of_unit,
    normal_tail,
    one_plus_exp_of_minus,
    sigmoid,
)

simd = lazy("cpuruntime.compiler.simd")

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
GELU_CUBIC, GELU_SCALE = 0.044715, 1.59576912160573071  # 2 * sqrt(2 / pi)


@dataclass(frozen=True)
class Activation:
    """A function of three vectors, x and two parameters, and the parameters it uses: ONNX's names and defaults."""

    function: Inline
    parameters: dict[str, float]


def _activation(function: Inline | Callable[..., Any], **parameters: float) -> Activation:
    """The activation of a function of a vector and of no more arguments than there are parameters."""
    function = function if isinstance(function, Inline) else inline(function)
    if not parameters:
        return Activation(inline(lambda x, alpha, beta: function(x)), parameters)
    if len(parameters) == 1:
        return Activation(inline(lambda x, alpha, beta: function(x, alpha)), parameters)
    return Activation(function, parameters)


unchanged = inline(lambda x, alpha, beta: x)


def sign(x):
    one = simd.broadcast(1.0)
    return simd.select(x > 0.0, one, simd.select(x < 0.0, 0.0 - one, x))


def shrink(x, limit, bias):
    return simd.select(x > limit, x - bias, simd.select(x < 0.0 - limit, x + bias, simd.broadcast(0.0)))


@inline
def hard_sigmoid(x, alpha, beta):
    return simd.minimum(simd.broadcast(1.0), simd.maximum(simd.broadcast(0.0), x * alpha + beta))


def hard_swish(x):
    return x * hard_sigmoid(x, simd.broadcast(1.0 / 6.0), simd.broadcast(0.5))


def softplus(x):
    return simd.maximum(simd.broadcast(0.0), x) + log1p_of_unit(exp_or_zero(0.0 - simd.absolute(x)))


def mish(x):
    """x * tanh(softplus(x)), where tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2)."""
    e = exp_or_zero(simd.minimum(simd.broadcast(20.0), x))
    part = e * (e + 2.0)
    return x * (part / (part + 2.0))


@inline
def gated(x, gate):
    """x * sigmoid(gate), to 3 ulp; 0 where the gate is below -88.4."""
    return x / one_plus_exp_of_minus(gate)


def gelu(x):
    """x times the normal distribution up to x."""
    tail = normal_tail(simd.absolute(x))
    return x * simd.select(x < 0.0, tail, 1.0 - tail)


def gelu_tanh(x):
    """The approximation of Gelu by tanh, written as 0.5 (1 + tanh(z)) = sigmoid(2 z)."""
    return gated(x, (x * x * GELU_CUBIC + 1.0) * x * GELU_SCALE)


# By ONNX operator; but Gelu with approximate="tanh" is GeluTanh, Swish of alpha 1 is Silu, Mul of x and x is Square.
ACTIVATIONS: dict[str, Activation] = {
    "Abs": _activation(lambda x: simd.absolute(x)),
    "Acos": _activation(trigonometry.arccosine),
    "Acosh": _activation(trigonometry.inverse_hyperbolic_cosine),
    "Asin": _activation(trigonometry.arcsine),
    "Asinh": _activation(trigonometry.inverse_hyperbolic_sine),
    "Atan": _activation(trigonometry.arctangent),
    "Atanh": _activation(trigonometry.inverse_hyperbolic_tangent),
    "Ceil": _activation(vector_math.round_up),
    "Celu": _activation(lambda x, alpha: simd.select(x < 0.0, expm1(x / alpha) * alpha, x), alpha=1.0),
    "Clip": _activation(lambda x, low, high: simd.minimum(high, simd.maximum(low, x)), min=-inf, max=inf),
    "Cos": _activation(trigonometry.cosine),
    "Cosh": _activation(trigonometry.hyperbolic_cosine),
    "Elu": _activation(lambda x, alpha: simd.select(x < 0.0, expm1(x) * alpha, x), alpha=1.0),
    "Erf": _activation(vector_math.erf),
    "Exp": _activation(vector_math.exp),
    "Floor": _activation(vector_math.round_down),
    "Gelu": _activation(gelu),
    "GeluTanh": _activation(gelu_tanh),
    "HardSigmoid": _activation(hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _activation(hard_swish),
    "LeakyRelu": _activation(lambda x, alpha: simd.select(x < 0.0, x * alpha, x), alpha=0.01),
    "Log": _activation(vector_math.log),
    "Mish": _activation(mish),
    "Neg": _activation(lambda x: simd.as_floats(simd.as_words(x) ^ SIGN_BIT)),
    "Reciprocal": _activation(lambda x: 1.0 / x),
    "Relu": _activation(lambda x: simd.maximum(simd.broadcast(0.0), x)),
    "Round": _activation(vector_math.round_even),
    "Selu": _activation(
        lambda x, alpha, gamma: simd.select(x < 0.0, expm1(x) * alpha, x) * gamma, alpha=SELU_ALPHA, gamma=SELU_GAMMA
    ),
    "Shrink": _activation(shrink, lambd=0.5, bias=0.0),
    "Sigmoid": _activation(sigmoid),
    "Sign": _activation(sign),
    "Silu": _activation(lambda x: gated(x, x)),
    "Sin": _activation(trigonometry.sine),
    "Sinh": _activation(trigonometry.hyperbolic_sine),
    "Softplus": _activation(softplus),
    "Softsign": _activation(lambda x: x / (simd.absolute(x) + 1.0)),
    "Sqrt": _activation(lambda x: simd.sqrt(x)),
    "Square": _activation(lambda x: x * x),
    "Swish": _activation(lambda x, alpha: gated(x, x * alpha), alpha=1.0),
    "Tan": _activation(trigonometry.tangent),
    "Tanh": _activation(vector_math.tanh),
    "ThresholdedRelu": _activation(lambda x, alpha: simd.select(x > alpha, x, simd.broadcast(0.0)), alpha=1.0),
}
