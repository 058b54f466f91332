"""Vision transformers: ViT-Tiny with an open batch size, whose shapes are computed in the graph, and ViT-Base."""

from __future__ import annotations

import numpy as np
import onnx

from models.blocks import gelu, joined, layer_norm
from models.builder import BRANCH, SILU, Builder

EPSILON = 1e-6


def vit_tiny(seed: int = 0, *, size: int = 224, layers: int = 12, width: int = 192) -> onnx.ModelProto:
    """timm's vit_tiny_patch16_224 for any batch, attention exported from torch's scaled_dot_product_attention."""
    b = Builder("vit_tiny", seed)
    tokens = (size // 16) ** 2 + 1
    x = b.conv(b.input("input", "N", 3, size, size), 3, width, 16, 16, pads=[0, 0, 0, 0])
    with b.scope("patch_embed"):
        flat = b("Concat", b.slice(b("Shape", x), 0, 0, 2), b.constant([-1]), axis=0)
        x = b.transpose(b("Reshape", x, flat), 0, 2, 1)
    x = b("Concat", _expanded(b, b.weight("cls_token", 1, 1, width), x), x, axis=1)
    x = b("Add", x, b.weight("pos_embed", 1, tokens, width))
    for layer in range(layers):
        with b.scope(f"blocks.{layer}"):
            x = b("Add", x, _open_attention(b, layer_norm(b, x, width, EPSILON), width))
            x = b("Add", x, _mlp(b, layer_norm(b, x, width, EPSILON), width))
    _head(b, x, width, "N")
    return b.model()


def vit_base(seed: int = 0, *, size: int = 224, layers: int = 12, width: int = 768) -> onnx.ModelProto:
    """vit_base_patch16_224 with attention written out, the query scaled."""
    b = Builder("vit_base", seed)
    tokens = (size // 16) ** 2 + 1
    x = b.conv(b.input("input", 1, 3, size, size), 3, width, 16, 16, pads=[0, 0, 0, 0])
    x = b.transpose(b.reshape(x, 1, width, -1), 0, 2, 1)
    x = b("Concat", b.weight("cls_token", 1, 1, width), x, axis=1)
    x = b("Add", x, b.weight("pos_embed", 1, tokens, width))
    for layer in range(layers):
        with b.scope(f"blocks.{layer}"):
            x = b("Add", x, _attention(b, layer_norm(b, x, width, EPSILON), tokens, width))
            x = b("Add", x, _mlp(b, layer_norm(b, x, width, EPSILON), width))
    _head(b, x, width, 1)
    return b.model()


def _head(b: Builder, x: str, width: int, batch: int | str) -> None:
    first = b("Gather", layer_norm(b, x, width, EPSILON), b.constant(0), axis=1)
    b.output(b.gemm(first, width, 1000), "output", batch, 1000)


def _mlp(b: Builder, x: str, width: int) -> str:
    with b.scope("mlp"):
        return b.matmul(gelu(b, b.matmul(x, width, 4 * width, gain=SILU)), 4 * width, width, gain=BRANCH)


def _attention(b: Builder, x: str, tokens: int, width: int) -> str:
    with b.scope("attn"):
        packed = b.reshape(b.matmul(x, width, 3 * width), 1, tokens, 3, width // 64, 64)
        packed = b.transpose(packed, 2, 0, 3, 1, 4)
        query, key, value = (b("Gather", packed, b.constant(index), axis=0) for index in range(3))
        query = b("Mul", query, b.constant(64**-0.5))
        scores = b("MatMul", query, b.transpose(key, 0, 1, 3, 2))
        y = joined(b, b("MatMul", b("Softmax", scores, axis=-1), value), tokens, width)
        return b.matmul(y, width, width, gain=BRANCH)


def _sizes(b: Builder, x: str, *axes: int) -> list[str]:
    """The sizes of some axes, each as a vector of one element."""
    return [b("Unsqueeze", b("Gather", b("Shape", x), b.constant(axis)), b.constant([0])) for axis in axes]


def _expanded(b: Builder, token: str, x: str) -> str:
    """`token.expand(x.shape[0], -1, -1)`: a -1 is found in the shape and replaced in the graph."""
    shape = b("Concat", *_sizes(b, x, 0), b.constant([-1]), b.constant([-1]), axis=0)
    ones = b("ConstantOfShape", b.constant([3]), value=onnx.numpy_helper.from_array(np.ones(1, np.int64)))
    keep = b("Equal", shape, b("Mul", ones, b.constant(-1)))
    return b("Expand", token, b("Where", keep, ones, shape))


def _open_attention(b: Builder, x: str, width: int) -> str:
    with b.scope("attn"):
        shape = _sizes(b, x, 0, 1)
        packed = b("Concat", *shape, *(b.constant([size]) for size in (3, width // 64, 64)), axis=0)
        packed = b.transpose(b("Reshape", b.matmul(x, width, 3 * width), packed), 2, 0, 3, 1, 4)
        query, key, value = (b("Squeeze", part, b.constant([0])) for part in b.split(packed, 0, 1, 1, 1))
        half = _half_scale(b, query)
        scores = b("MatMul", b("Mul", query, half), b("Mul", b.transpose(key, 0, 1, 3, 2), half))
        y = b.transpose(b("MatMul", b("Softmax", scores, axis=-1), value), 0, 2, 1, 3)
        y = b("Reshape", y, b("Concat", *shape, b.constant([width]), axis=0))
        return b.matmul(y, width, width, gain=BRANCH)


def _half_scale(b: Builder, query: str) -> str:
    """The square root of 1 / sqrt(width of a head), computed from the query's shape."""
    last = b.slice(b("Shape", query), 0, -1, 2**63 - 1)
    root = b("Sqrt", b("Cast", last, to=onnx.TensorProto.FLOAT))
    return b("Sqrt", b("Cast", b("Div", b.constant([1.0]), root), to=onnx.TensorProto.FLOAT))
