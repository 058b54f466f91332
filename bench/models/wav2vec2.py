"""wav2vec 2.0: one-dimensional convolutions over sound, then a transformer."""

from __future__ import annotations

import numpy as np
import onnx

from models.blocks import gelu, layer_norm
from models.builder import SILU, Builder

LAYERS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel, stride of the feature extractor
FEATURES = 512


def wav2vec2(seed: int = 0, *, samples: int = 16000, layers: int = 12, width: int = 768) -> onnx.ModelProto:
    """transformers' Wav2Vec2Model (wav2vec2-base): the last hidden state for one second of sound."""
    b = Builder("wav2vec2", seed)
    x, channels, length = b("Unsqueeze", b.input("input_values", 1, samples), b.constant([1])), 1, samples
    for index, (kernel, stride) in enumerate(LAYERS):
        with b.scope(f"feature_extractor.{index}"):
            x = b.conv(x, channels, FEATURES, [kernel], stride, pads=[0, 0], gain=SILU, bias=False)
            length, channels = (length - kernel) // stride + 1, FEATURES
            x = gelu(b, x if index else _group_norm(b, x, length))
    with b.scope("feature_projection"):
        x = b.matmul(layer_norm(b, b.transpose(x, 0, 2, 1), FEATURES), FEATURES, width)
    with b.scope("encoder"):
        y = b.conv(b.transpose(x, 0, 2, 1), width, width, [128], group=16, pads=[64, 64], gain=SILU)
        y = gelu(b, b.slice(y, 2, 0, -1))
        x = layer_norm(b, b("Add", x, b.transpose(y, 0, 2, 1)), width)
        for layer in range(layers):
            with b.scope(f"layers.{layer}"):
                x = layer_norm(b, b("Add", x, _attention(b, x, length, width)), width)
                y = b.matmul(gelu(b, b.matmul(x, width, 4 * width, gain=SILU)), 4 * width, width)
                x = layer_norm(b, b("Add", x, y), width)
    b.output(x, "last_hidden_state", 1, length, width)
    return b.model()


def _group_norm(b: Builder, x: str, length: int) -> str:
    """GroupNorm with one group for each channel, as torch exports it for any number of groups."""
    ones, zeros = (b.constant(np.full(FEATURES, number, np.float32)) for number in (1, 0))
    y = b("InstanceNormalization", b.reshape(x, 0, FEATURES, -1), ones, zeros, epsilon=1e-5)
    y = b("Mul", b.reshape(y, 1, FEATURES, length), b.around_one("weight", FEATURES, 1))
    return b("Add", y, b.weight("bias", FEATURES, 1))


def _attention(b: Builder, x: str, length: int, width: int) -> str:
    """Attention over three axes, heads counted with the batch."""
    with b.scope("attention"):
        count = width // 64

        def heads(y: str) -> str:
            y = b.transpose(b.reshape(y, 1, length, count, 64), 0, 2, 1, 3)
            return b.reshape(y, count, -1, 64)

        query = heads(b("Mul", b.matmul(x, width, width), b.constant(64**-0.5)))
        key, value = heads(b.matmul(x, width, width)), heads(b.matmul(x, width, width))
        weights = b("Softmax", b("MatMul", query, b.transpose(key, 0, 2, 1)), axis=-1)
        y = b.reshape(b("MatMul", weights, value), 1, count, length, 64)
        return b.matmul(b.reshape(b.transpose(y, 0, 2, 1, 3), 1, length, width), width, width)
