"""One-argument functions on float32 vectors, each declared once, for every kernel that applies them.

All of them keep NaN. Each takes the vector and two parameters, vectors too, which most ignore.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cpuruntime.compiler.kernel import Inline, inline, lazy
from cpuruntime.ops.functions.trigonometry import (
    arccosine,
    arcsine,
    arctangent,
    cosine,
    hyperbolic_cosine,
    hyperbolic_sine,
    inverse_hyperbolic_cosine,
    inverse_hyperbolic_sine,
    inverse_hyperbolic_tangent,
    sine,
    tangent,
)
from cpuruntime.ops.functions.vector_math import (
    SIGN_BIT,
    erf,
    exp,
    exp_or_zero,
    expm1,
    log,
    log1p_of_unit,
    normal_tail,
    round_down,
    round_even,
    round_up,
    sigmoid,
    tanh,
)

simd = lazy("cpuruntime.compiler.simd")

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
GELU_CUBIC, GELU_SCALE = 0.044715, 1.59576912160573071  # 2 * sqrt(2 / pi)


@dataclass(frozen=True)
class Activation:
    """A vector function and its parameters in order, named as ONNX attributes, with ONNX's defaults."""

    function: Inline
    parameters: dict[str, float] = field(default_factory=dict)


@inline
def magnitude(x, alpha, beta):
    return simd.absolute(x)


@inline
def negative(x, alpha, beta):
    return simd.as_floats(simd.as_words(x) ^ SIGN_BIT)


@inline
def square(x, alpha, beta):
    return x * x


@inline
def square_root(x, alpha, beta):
    return simd.sqrt(x)


@inline
def reciprocal(x, alpha, beta):
    return 1.0 / x


@inline
def floor(x, alpha, beta):
    return round_down(x)


@inline
def ceil(x, alpha, beta):
    return round_up(x)


@inline
def nearest(x, alpha, beta):
    return round_even(x)


@inline
def sign(x, alpha, beta):
    one = simd.broadcast(1.0)
    return simd.select(x > 0.0, one, simd.select(x < 0.0, 0.0 - one, x))


@inline
def exponential(x, alpha, beta):
    return exp(x)


@inline
def logarithm(x, alpha, beta):
    return log(x)


@inline
def error_function(x, alpha, beta):
    return erf(x)


@inline
def clip(x, low, high):
    return simd.minimum(high, simd.maximum(low, x))


@inline
def relu(x, alpha, beta):
    return simd.maximum(simd.broadcast(0.0), x)


@inline
def leaky_relu(x, alpha, beta):
    return simd.select(x < 0.0, x * alpha, x)


@inline
def thresholded_relu(x, alpha, beta):
    return simd.select(x <= alpha, simd.broadcast(0.0), x)


@inline
def shrink(x, limit, bias):
    zero = simd.select(x == x, simd.broadcast(0.0), x)
    return simd.select(x > limit, x - bias, simd.select(x < 0.0 - limit, x + bias, zero))


@inline
def elu(x, alpha, beta):
    return simd.select(x < 0.0, expm1(x) * alpha, x)


@inline
def selu(x, alpha, gamma):
    return simd.select(x < 0.0, expm1(x) * alpha, x) * gamma


@inline
def celu(x, alpha, beta):
    return simd.select(x < 0.0, expm1(x / alpha) * alpha, x)


@inline
def logistic(x, alpha, beta):
    return sigmoid(x)


@inline
def hyperbolic_tangent(x, alpha, beta):
    return tanh(x)


@inline
def hard_sigmoid(x, alpha, beta):
    return simd.minimum(simd.broadcast(1.0), simd.maximum(simd.broadcast(0.0), x * alpha + beta))


@inline
def hard_swish(x, alpha, beta):
    return x * hard_sigmoid(x, simd.broadcast(1.0 / 6.0), simd.broadcast(0.5))


@inline
def softplus(x, alpha, beta):
    return simd.maximum(simd.broadcast(0.0), x) + log1p_of_unit(exp_or_zero(0.0 - simd.absolute(x)))


@inline
def softsign(x, alpha, beta):
    return x / (simd.absolute(x) + 1.0)


@inline
def swish(x, alpha, beta):
    return x * sigmoid(x * alpha)


@inline
def silu(x, alpha, beta):
    return x * sigmoid(x)


@inline
def mish(x, alpha, beta):
    """x * tanh(softplus(x)), where tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2)."""
    e = exp_or_zero(simd.minimum(simd.broadcast(20.0), x))
    part = e * (e + 2.0)
    return x * (part / (part + 2.0))


@inline
def gelu(x, alpha, beta):
    """x times the normal distribution up to x."""
    tail = normal_tail(simd.absolute(x))
    return x * simd.select(x < 0.0, tail, 1.0 - tail)


@inline
def gelu_tanh(x, alpha, beta):
    """The approximation of Gelu by tanh, written as 0.5 (1 + tanh(z)) = sigmoid(2 z)."""
    return x * sigmoid((x * x * GELU_CUBIC + 1.0) * x * GELU_SCALE)


# By ONNX operator; but Gelu with approximate="tanh" is GeluTanh, Swish of alpha 1 is Silu, Mul of x and x is Square.
ACTIVATIONS: dict[str, Activation] = {
    "Abs": Activation(magnitude),
    "Acos": Activation(arccosine),
    "Acosh": Activation(inverse_hyperbolic_cosine),
    "Asin": Activation(arcsine),
    "Asinh": Activation(inverse_hyperbolic_sine),
    "Atan": Activation(arctangent),
    "Atanh": Activation(inverse_hyperbolic_tangent),
    "Ceil": Activation(ceil),
    "Celu": Activation(celu, {"alpha": 1.0}),
    "Clip": Activation(clip, {"min": float("-inf"), "max": float("inf")}),
    "Cos": Activation(cosine),
    "Cosh": Activation(hyperbolic_cosine),
    "Elu": Activation(elu, {"alpha": 1.0}),
    "Erf": Activation(error_function),
    "Exp": Activation(exponential),
    "Floor": Activation(floor),
    "Gelu": Activation(gelu),
    "GeluTanh": Activation(gelu_tanh),
    "HardSigmoid": Activation(hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": Activation(hard_swish),
    "LeakyRelu": Activation(leaky_relu, {"alpha": 0.01}),
    "Log": Activation(logarithm),
    "Mish": Activation(mish),
    "Neg": Activation(negative),
    "Reciprocal": Activation(reciprocal),
    "Relu": Activation(relu),
    "Round": Activation(nearest),
    "Selu": Activation(selu, {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA}),
    "Shrink": Activation(shrink, {"lambd": 0.5, "bias": 0.0}),
    "Sigmoid": Activation(logistic),
    "Sign": Activation(sign),
    "Silu": Activation(silu),
    "Sin": Activation(sine),
    "Sinh": Activation(hyperbolic_sine),
    "Softplus": Activation(softplus),
    "Softsign": Activation(softsign),
    "Sqrt": Activation(square_root),
    "Square": Activation(square),
    "Swish": Activation(swish, {"alpha": 1.0}),
    "Tan": Activation(tangent),
    "Tanh": Activation(hyperbolic_tangent),
    "ThresholdedRelu": Activation(thresholded_relu, {"alpha": 1.0}),
}
