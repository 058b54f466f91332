"""BERT: three inputs of whole numbers, layer normalisation and GELU spelled out, as exported before opset 17."""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx

from models.blocks import LOWEST, gelu, heads, joined, layer_norm_primitives
from models.builder import SILU, Builder

VOCABULARY = 30522
POSITIONS = 512


def bert_base(
    seed: int = 0, *, tokens: int = 128, layers: int = 12, width: int = 768, vocabulary: int = VOCABULARY
) -> onnx.ModelProto:
    """transformers' BertModel (bert-base-uncased): the last hidden state and the pooled first token."""
    b = Builder("bert_base", seed, opset=14)
    ids = b.input("input_ids", 1, tokens, dtype=np.int64, below=vocabulary)
    mask = _mask(b, b.input("attention_mask", 1, tokens, dtype=np.int64, below=2))
    types = b.input("token_type_ids", 1, tokens, dtype=np.int64, below=2)
    with b.scope("embeddings"):
        words = b("Gather", b.weight("word_embeddings.weight", vocabulary, width, deviation=1.0), ids)
        words = b("Add", words, b("Gather", b.weight("token_type_embeddings.weight", 2, width, deviation=1.0), types))
        table = b.weight("position_embeddings.weight", POSITIONS, width, deviation=1.0)
        places = b("Gather", table, b.constant(np.arange(tokens)[None]))
        x = layer_norm_primitives(b, b("Add", words, places), width)
    for layer in range(layers):
        with b.scope(f"encoder.layer.{layer}"):
            x = _layer(b, x, mask, tokens, width)
    with b.scope("pooler"):
        pooled = b("Tanh", b.gemm(b("Gather", x, b.constant(0), axis=1), width, width, gain=0.5))
    b.output(x, "last_hidden_state", 1, tokens, width)
    b.output(pooled, "pooler_output", 1, width)
    return b.model()


def _mask(b: Builder, kept: str) -> str:
    """What is added to the scores: 0 for tokens to look at, the lowest number for others."""
    wide = b("Unsqueeze", b("Unsqueeze", kept, b.constant([1])), b.constant([2]))
    return b("Mul", b("Sub", b.constant(1.0), b("Cast", wide, to=onnx.TensorProto.FLOAT)), b.constant(LOWEST))


def _layer(b: Builder, x: str, mask: str, tokens: int, width: int) -> str:
    count = width // 64
    with b.scope("attention"):
        query, key, value = (
            heads(b, b.matmul(x, width, width), tokens, count, 64, keys=name == "key")
            for name in ("query", "key", "value")
        )
        scores = b("Add", b("Div", b("MatMul", query, key), b.constant(sqrt(64))), mask)
        y = joined(b, b("MatMul", b("Softmax", scores, axis=-1), value), tokens, width)
        x = layer_norm_primitives(b, b("Add", b.matmul(y, width, width), x), width)
    with b.scope("output"):
        y = b.matmul(gelu(b, b.matmul(x, width, 4 * width, gain=SILU)), 4 * width, width)
        return layer_norm_primitives(b, b("Add", y, x), width)
