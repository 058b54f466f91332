"""Projections to queries, keys and values merged into one product."""

from __future__ import annotations

import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise

from cpuruntime.graph import Value

BATCH, HEADS, TOKENS, WIDTH = 2, 3, 5, 4
CHANNELS = HEADS * WIDTH


def projection(b: Builder, x: Value, bias: bool = True) -> Value:
    y = b("MatMul", x, b.weights(CHANNELS, CHANNELS))
    return b("Add", y, b.weights(CHANNELS)) if bias else y


def heads(b: Builder, x: Value, *order: int) -> Value:
    return b("Transpose", b("Reshape", x, b.integers(0, 0, HEADS, WIDTH)), perm=order or (0, 2, 1, 3))


def attention(b: Builder, query: Value, key: Value, value: Value) -> Value:
    weights = b("Softmax", b("MatMul", heads(b, query), heads(b, key, 0, 2, 3, 1)), axis=-1)
    return b("MatMul", weights, heads(b, value))


@pytest.mark.parametrize("bias", [True, False])
def test_three_become_one(bias: bool) -> None:
    b = Builder()
    x = b.input(BATCH, TOKENS, CHANNELS)
    parts = projection(b, x), projection(b, x, bias), projection(b, x)
    after = optimise(b.graph(attention(b, *parts)))
    assert kinds(after) == ["+FullyConnected", "+Attention"]
    assert node_of(after, "FullyConnected").outputs[0].shape == (BATCH, TOKENS, 3 * CHANNELS)
    row = 3 * CHANNELS
    for index, name in enumerate(("query", "key", "value")):
        assert attributes_of(after, "Attention", name) == [[index * CHANNELS, TOKENS * row, WIDTH, row, 1]]


def test_keys_and_values_of_another_sequence() -> None:
    b = Builder()
    x, memory = b.input(BATCH, TOKENS, CHANNELS), b.input(BATCH, 7, CHANNELS)
    after = optimise(b.graph(attention(b, projection(b, x), projection(b, memory), projection(b, memory))))
    assert kinds(after) == ["+FullyConnected", "+FullyConnected", "+Attention"]
    assert attributes_of(after, "Attention", "query") == [[0, TOKENS * CHANNELS, WIDTH, CHANNELS, 1]]
    assert attributes_of(after, "Attention", "value") == [[CHANNELS, 14 * CHANNELS, WIDTH, 2 * CHANNELS, 1]]


@pytest.mark.parametrize("flaw", ["read elsewhere", "activated"])
def test_what_stays_apart(flaw: str) -> None:
    b = Builder()
    x = b.input(BATCH, TOKENS, CHANNELS)
    query, key, value = (projection(b, x) for _ in range(3))
    if flaw == "activated":
        query, key = b("Relu", query), b("Relu", key)
    else:
        b.output(query, key)
    after = optimise(b.graph(attention(b, query, key, value)))
    assert sum("FullyConnected" in kind for kind in kinds(after)) == 3


def test_heads_across_rows_stay_apart() -> None:
    b = Builder()
    x = b.input(1, TOKENS, CHANNELS)
    turned = (b("Reshape", projection(b, x), b.integers(1, HEADS, TOKENS, WIDTH)) for _ in range(3))
    query, key, value = turned
    weights = b("Softmax", b("MatMul", query, b("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
    after = optimise(b.graph(b("MatMul", weights, value)))
    assert kinds(after) == [*["+FullyConnected"] * 3, "+Attention"]
