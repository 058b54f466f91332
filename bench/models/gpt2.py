"""GPT-2 reading a prompt: fused projections by Gemm, a causal mask by Where, GELU by Tanh spelled out."""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx

from models.blocks import LOWEST, gelu_tanh, heads, joined, layer_norm
from models.builder import BRANCH, SILU, Builder

VOCABULARY = 50257
POSITIONS = 1024


def gpt2(
    seed: int = 0, *, tokens: int = 64, layers: int = 12, width: int = 768, vocabulary: int = VOCABULARY
) -> onnx.ModelProto:
    """transformers' GPT2LMHeadModel (gpt2): logits for every token of the prompt."""
    b = Builder("gpt2", seed)
    ids = b("Reshape", b.input("input_ids", 1, tokens, dtype=np.int64, below=vocabulary), b.constant([-1, tokens]))
    places = b("Gather", b.weight("wpe.weight", POSITIONS, width), b.constant(np.arange(tokens)[None]))
    x = b("Add", b("Gather", b.weight("wte.weight", vocabulary, width, deviation=1.0), ids), places)
    for layer in range(layers):
        with b.scope(f"h.{layer}"):
            x = b("Add", _attention(b, layer_norm(b, x, width), tokens, width), x)
            hidden = gelu_tanh(b, _conv1d(b, layer_norm(b, x, width), tokens, width, 4 * width, SILU))
            x = b("Add", x, _conv1d(b, hidden, tokens, 4 * width, width, BRANCH))
    with b.scope("lm_head"):
        logits = b.matmul(layer_norm(b, x, width), width, vocabulary, bias=False)
    b.output(logits, "logits", 1, tokens, vocabulary)
    return b.model()


def _conv1d(b: Builder, x: str, tokens: int, channels: int, out: int, gain: float) -> str:
    """transformers' Conv1D: a linear layer over the rows of a matrix."""
    y = b.gemm(b.reshape(x, -1, channels), channels, out, gain=gain, transposed=False)
    return b.reshape(y, 1, tokens, out)


def _attention(b: Builder, x: str, tokens: int, width: int) -> str:
    with b.scope("attn"):
        count = width // 64
        query, key, value = b.split(_conv1d(b, x, tokens, width, 3 * width, 1.0), 2, width, width, width)
        query, key, value = (heads(b, part, tokens, count, 64, keys=part == key) for part in (query, key, value))
        scores = b("Div", b("MatMul", query, key), b.constant(sqrt(64)))
        causal = b.initializer("bias", np.tril(np.ones((1, 1, POSITIONS, POSITIONS), np.bool_)))
        mask = b.slice(b.slice(causal, 2, 0, tokens), 3, 0, tokens)
        weights = b("Softmax", b("Where", mask, scores, b.constant(LOWEST)), axis=-1)
        return _conv1d(b, joined(b, b("MatMul", weights, value), tokens, width), tokens, width, width, BRANCH)
