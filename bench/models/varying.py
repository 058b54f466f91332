"""Models of dynamic shapes, with the arithmetic of shapes that exporters write."""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx

from models.blocks import LOWEST, gelu, layer_norm
from models.builder import BRANCH, RELU, SILU, Builder

HEAD = 32


def perceptron(seed: int = 0, *, width: int = 256, layers: int = 4) -> onnx.ModelProto:
    """Layers with a Relu between them, for any batch."""
    b = Builder("perceptron", seed)
    x = b.input("input", "batch", width)
    for _ in range(layers):
        x = b("Relu", b.gemm(x, width, width, gain=RELU))
    b.output(x, "output", "batch", width)
    return b.model()


def convolutions(seed: int = 0, *, width: int = 32) -> onnx.ModelProto:
    """Strided convolutions, and a way back up to the size of the first features, for any batch, height and width."""
    b = Builder("convolutions", seed)
    first = b("Relu", b.conv(b.input("input", "batch", 3, "height", "width"), 3, width, 3, 2, gain=RELU))
    x = first
    for _ in range(2):
        x = b("Relu", b.conv(x, width, width, 3, 2, gain=RELU))
    sizes = b.slice(b("Shape", first), 0, 2, 4)
    target = b("Concat", b.slice(b("Shape", x), 0, 0, 2), sizes, axis=0)
    x = b("Resize", x, "", "", target, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    x = b("Relu", b.conv(b("Concat", x, first, axis=1), 2 * width, width, gain=RELU))
    x = b("Flatten", b("GlobalAveragePool", x), axis=1)
    b.output(b.gemm(x, width, 10), "output", "batch", 10)
    return b.model()


def encoder(seed: int = 0, *, layers: int, width: int) -> onnx.ModelProto:
    """A transformer's encoder over embedded tokens and a mask, for any batch and length."""
    b = Builder(f"encoder {layers}x{width}", seed)
    x = b.input("states", "batch", "length", width)
    mask = b.input("mask", "batch", "length", dtype=np.int64, below=2)
    wide = b("Unsqueeze", mask, b.constant([1, 2]))
    hidden = b("Mul", b("Sub", b.constant(1.0), b("Cast", wide, to=onnx.TensorProto.FLOAT)), b.constant(LOWEST))
    for layer in range(layers):
        with b.scope(f"layer.{layer}"):
            y = b.matmul(_attention(b, layer_norm(b, x, width), hidden, width), width, width, gain=BRANCH)
            x = b("Add", x, y)
            y = gelu(b, b.matmul(layer_norm(b, x, width), width, 4 * width, gain=SILU))
            x = b("Add", x, b.matmul(y, 4 * width, width, gain=BRANCH))
    b.output(layer_norm(b, x, width), "output", "batch", "length", width)
    return b.model()


def _attention(b: Builder, x: str, mask: str, width: int) -> str:
    def split(y: str, *order: int) -> str:
        return b.transpose(b("Reshape", y, _like(b, y, width // HEAD, HEAD)), *order)

    query, key, value = (b.matmul(x, width, width) for _ in range(3))
    scores = b("MatMul", split(query, 0, 2, 1, 3), split(key, 0, 2, 3, 1))
    scores = b("Add", b("Div", scores, b.constant(sqrt(HEAD))), mask)
    y = b.transpose(b("MatMul", b("Softmax", scores, axis=-1), split(value, 0, 2, 1, 3)), 0, 2, 1, 3)
    return b("Reshape", y, _like(b, x, width))


def _like(b: Builder, x: str, *rest: int) -> str:
    """The shape of x up to its last dimension, then the rest."""
    sizes = [b("Gather", b("Shape", x), b.constant(axis), axis=0) for axis in range(2)]
    ranked = [b("Unsqueeze", size, b.constant([0])) for size in sizes]
    return b("Concat", *ranked, *(b.constant([size]) for size in rest), axis=0)
