"""A small Llama reading a prompt: RMS normalisation, rotary positions, grouped keys and values, gated layers."""

from __future__ import annotations

import numpy as np
import onnx

from models.blocks import LOWEST, heads, joined, rms_norm, scaled_attention, silu
from models.builder import BRANCH, SILU, Builder

HEADS = 6
GROUPS = 2  # heads of keys and values
VOCABULARY = 32000
LAST = 2**63 - 1


def llama(
    seed: int = 0, *, tokens: int = 64, layers: int = 6, width: int = 288, vocabulary: int = VOCABULARY
) -> onnx.ModelProto:
    """The sizes of stories15M, with three heads to each key: logits for every token, cosines and sines in the graph."""
    b = Builder("llama", seed)
    ids = b.input("input_ids", 1, tokens, dtype=np.int64, below=vocabulary)
    rotation = _rotation(b, b.input("position_ids", 1, tokens, dtype=np.int64, below=tokens), width // HEADS)
    x = b("Gather", b.weight("embed_tokens.weight", vocabulary, width, deviation=1.0), ids)
    mask = b.constant(np.triu(np.full((1, 1, tokens, tokens), LOWEST, np.float32), 1))
    for layer in range(layers):
        with b.scope(f"layers.{layer}"):
            x = b("Add", x, _attention(b, rms_norm(b, x, width), mask, rotation, tokens, width))
            x = b("Add", x, _gated(b, rms_norm(b, x, width), width, width * 8 // 3))
    logits = b.matmul(rms_norm(b, x, width), width, vocabulary, bias=False)
    b.output(logits, "logits", 1, tokens, vocabulary)
    return b.model()


def _gated(b: Builder, x: str, width: int, hidden: int) -> str:
    with b.scope("mlp"):
        gate = silu(b, b.matmul(x, width, hidden, gain=SILU, bias=False))
        y = b("Mul", gate, b.matmul(x, width, hidden, bias=False))
        return b.matmul(y, hidden, width, gain=BRANCH, bias=False)


def _rotation(b: Builder, positions: str, width: int) -> tuple[str, str]:
    """Cosines and sines of the positions times each frequency, [1, 1, tokens, width]."""
    with b.scope("rotary_emb"):
        frequencies = 10000.0 ** (-np.arange(0, width, 2) / width)
        row = b("Cast", b("Unsqueeze", positions, b.constant([1])), to=onnx.TensorProto.FLOAT)
        angles = b.transpose(b("MatMul", b.constant(frequencies[None, :, None]), row), 0, 2, 1)
        angles = b("Concat", angles, angles, axis=-1)
        cosines, sines = (b("Unsqueeze", b(name, angles), b.constant([1])) for name in ("Cos", "Sin"))
        return cosines, sines


def _rotated(b: Builder, x: str, rotation: tuple[str, str], width: int) -> str:
    low, high = b.slice(x, 3, 0, width // 2), b.slice(x, 3, width // 2, LAST)
    turned = b("Concat", b("Neg", high), low, axis=-1)
    return b("Add", b("Mul", x, rotation[0]), b("Mul", turned, rotation[1]))


def _attention(b: Builder, x: str, mask: str, rotation: tuple[str, str], tokens: int, width: int) -> str:
    with b.scope("self_attn"):
        head = width // HEADS

        def repeated(y: str) -> str:
            sizes = b.constant([1, GROUPS, HEADS // GROUPS, tokens, head])
            return b.reshape(b("Expand", b("Unsqueeze", y, b.constant([2])), sizes), 1, HEADS, tokens, head)

        query, key, value = (
            heads(b, b.matmul(x, width, count * head, bias=False), tokens, count, head)
            for count in (HEADS, GROUPS, GROUPS)
        )
        query, key = _rotated(b, query, rotation, head), _rotated(b, key, rotation, head)
        y = scaled_attention(b, query, repeated(key), repeated(value), head, mask)
        return b.matmul(joined(b, y, tokens, width), width, width, gain=BRANCH, bias=False)
