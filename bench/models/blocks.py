"""Activations, normalisations and attention in the spellings that exporters use."""

from __future__ import annotations

from math import sqrt

from models.builder import Builder

LOWEST = -3.4028234663852886e38  # what masks put in place of a score


def silu(b: Builder, x: str) -> str:
    """x * sigmoid(x)."""
    return b("Mul", x, b("Sigmoid", x))


def relu6(b: Builder, x: str) -> str:
    """Clip with its limits as constant inputs."""
    return b("Clip", x, b.constant(0.0), b.constant(6.0))


def gelu(b: Builder, x: str) -> str:
    """GELU by Erf, spelled out."""
    erf = b("Erf", b("Div", x, b.constant(sqrt(2))))
    return b("Mul", b("Mul", x, b("Add", erf, b.constant(1.0))), b.constant(0.5))


def gelu_tanh(b: Builder, x: str) -> str:
    """GELU by Tanh, spelled out: GPT-2's own."""
    half = b("Mul", x, b.constant(0.5))
    cube = b("Mul", b("Pow", x, b.constant(3.0)), b.constant(0.044715))
    tanh = b("Tanh", b("Mul", b("Add", x, cube), b.constant(0.7978845608028654)))
    return b("Mul", half, b("Add", tanh, b.constant(1.0)))


def layer_norm(b: Builder, x: str, channels: int, epsilon: float = 1e-5) -> str:
    """LayerNormalization over the last axis (opset 17)."""
    weights = b.around_one("weight", channels), b.weight("bias", channels)
    return b("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)


def layer_norm_primitives(b: Builder, x: str, channels: int, epsilon: float = 1e-12) -> str:
    """Layer normalisation over the last axis, spelled as exporters did before opset 17."""
    centred = b("Sub", x, b("ReduceMean", x, axes=[-1]))
    variance = b("ReduceMean", b("Pow", centred, b.constant(2.0)), axes=[-1])
    y = b("Div", centred, b("Sqrt", b("Add", variance, b.constant(epsilon))))
    return b("Add", b("Mul", y, b.around_one("weight", channels)), b.weight("bias", channels))


def rms_norm(b: Builder, x: str, channels: int, epsilon: float = 1e-5) -> str:
    """Root mean square normalisation over the last axis, spelled out."""
    mean = b("ReduceMean", b("Pow", x, b.constant(2.0)), axes=[-1])
    inverse = b("Div", b.constant(1.0), b("Sqrt", b("Add", mean, b.constant(epsilon))))
    return b("Mul", b.around_one("weight", channels), b("Mul", x, inverse))


def norm_of_images(b: Builder, x: str, channels: int) -> str:
    """Layer normalisation over the channels of NCHW, between two transposes."""
    return b.transpose(layer_norm(b, b.transpose(x, 0, 2, 3, 1), channels, 1e-6), 0, 3, 1, 2)


def heads(b: Builder, x: str, length: int, count: int, width: int, *, keys: bool = False) -> str:
    """[batch, length, count * width] to [batch, count, length, width]; keys to [batch, count, width, length]."""
    order = (0, 2, 3, 1) if keys else (0, 2, 1, 3)
    return b.transpose(b.reshape(x, 0, length, count, width), *order)


def joined(b: Builder, x: str, length: int, channels: int) -> str:
    """[batch, count, length, width] back to [batch, length, count * width]."""
    return b.reshape(b.transpose(x, 0, 2, 1, 3), 0, length, channels)


def scaled_attention(b: Builder, query: str, key: str, value: str, width: int, mask: str = "") -> str:
    """`scaled_dot_product_attention` of static sizes as torch exports it; half of the scale goes to each side."""
    half = b.constant(width**-0.25)
    scores = b("MatMul", b("Mul", query, half), b("Mul", b.transpose(key, 0, 1, 3, 2), half))
    if mask:
        scores = b("Add", scores, mask)
    return b("MatMul", b("Softmax", scores, axis=-1), value)
