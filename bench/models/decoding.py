"""GPT-2 with keys and values of the tokens before: one step of a text generator."""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx

from models.blocks import LOWEST, gelu_tanh, layer_norm
from models.builder import BRANCH, SILU, Builder

HEAD = 64


def gpt2_with_past(
    seed: int = 0, *, layers: int = 12, width: int = 768, vocabulary: int = 50257, positions: int = 1024
) -> onnx.ModelProto:
    """Logits for `input_ids` [1, tokens], and `present_N_key` and `_value`: those of `past_` with the tokens' behind.

    Keys and values are [1, heads, past, 64]; any number of tokens, and any number before them.
    """
    b = Builder("gpt2_with_past", seed)
    ids = b.input("input_ids", 1, "tokens", dtype=np.int64, below=vocabulary)
    pasts = [
        [b.input(f"past_{layer}_{what}", 1, width // HEAD, "past", HEAD) for what in ("key", "value")]
        for layer in range(layers)
    ]
    zero, one = b.constant(0), b.constant(1)
    before = b("Gather", b("Shape", pasts[0][0]), b.constant(2))
    total = b("Add", before, b("Gather", b("Shape", ids), one))
    places = b("Unsqueeze", b("Range", before, total, one), b.constant([0]))
    x = b("Gather", b.weight("wte.weight", vocabulary, width, deviation=1.0), ids)
    x = b("Add", x, b("Gather", b.weight("wpe.weight", positions, width), places))
    later = b("Greater", b("Unsqueeze", b("Range", zero, total, one), b.constant([0])), b.transpose(places, 1, 0))
    mask = b("Where", later, b.constant(LOWEST), b.constant(0.0))
    for layer, past in enumerate(pasts):
        with b.scope(f"h.{layer}"):
            y, presents = _attention(b, layer_norm(b, x, width), past, mask, width)
            x = b("Add", x, y)
            hidden = gelu_tanh(b, b.matmul(layer_norm(b, x, width), width, 4 * width, gain=SILU))
            x = b("Add", x, b.matmul(hidden, 4 * width, width, gain=BRANCH))
        for what, present in zip(("key", "value"), presents):
            b.output(present, f"present_{layer}_{what}", 1, width // HEAD, "total", HEAD)
    logits = b.matmul(layer_norm(b, x, width), width, vocabulary, bias=False)
    b.output(logits, "logits", 1, "tokens", vocabulary)
    return b.model()


def _attention(b: Builder, x: str, past: list[str], mask: str, width: int) -> tuple[str, list[str]]:
    with b.scope("attn"):
        parts = b.split(b.matmul(x, width, 3 * width), 2, width, width, width)
        query, *new = (b.transpose(b.reshape(part, 0, 0, width // HEAD, HEAD), 0, 2, 1, 3) for part in parts)
        keys, values = (b("Concat", before, after, axis=2) for before, after in zip(past, new))
        scores = b("Div", b("MatMul", query, b.transpose(keys, 0, 1, 3, 2)), b.constant(sqrt(HEAD)))
        mixed = b("MatMul", b("Softmax", b("Add", scores, mask), axis=-1), values)
        mixed = b.reshape(b.transpose(mixed, 0, 2, 1, 3), 0, 0, width)
        return b.matmul(mixed, width, width, gain=BRANCH), [keys, values]
