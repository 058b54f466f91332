"""Attention as torch, transformers and older exporters write it, with heads moved around it."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise

from cpuruntime.graph import Graph, Value

NAME = "attention"
BATCH, HEADS, TOKENS, WIDTH = 2, 3, 5, 4
LOWEST = -3.4e38


def four(b: Builder, keys: int = TOKENS) -> list[Value]:
    return [b.input(BATCH, HEADS, n, WIDTH) for n in (TOKENS, keys, keys)]


def heads(b: Builder, x: Value, *order: int) -> Value:
    return b("Transpose", b("Reshape", x, b.integers(0, 0, HEADS, WIDTH)), perm=order or (0, 2, 1, 3))


def turned(b: Builder, key: Value) -> Value:
    return b("Transpose", key, perm=[0, 1, 3, 2])


def recognised(graph: Graph) -> Graph:
    after = optimise(graph, NAME)
    assert "+Attention" in kinds(after)
    assert not {"Softmax", "MatMul"} & set(kinds(after))
    return after


@pytest.mark.parametrize("place", ["none", "divided", "multiplied", "query", "both", "key before it is turned"])
def test_places_of_the_scale(place: str) -> None:
    b = Builder()
    query, key, value = four(b, 7)
    half = b.constant(0.5)
    if place in ("query", "both"):
        query = b("Mul", query, half)
    if place == "key before it is turned":
        key = b("Mul", half, key)
    key = turned(b, key)
    if place == "both":
        key = b("Mul", key, half)
    scores = b("MatMul", query, key)
    if place in ("divided", "multiplied"):
        scores = b("Div", scores, b.constant(2.0)) if place == "divided" else b("Mul", half, scores)
    after = recognised(b.graph(b("MatMul", b("Softmax", scores, axis=-1), value)))
    assert kinds(after) == ["+Attention"]
    expected = {"none": 1, "both": 0.25}.get(place, 0.5)
    assert attributes_of(after, "Attention", "scale", "causal") == [expected, 0]


def attend(b: Builder, scores: Value, value: Value) -> Graph:
    return b.graph(b("MatMul", b("Softmax", scores, axis=3), value))


@pytest.mark.parametrize("shape", [(1,), (7,), (BATCH, 1, 1, 7), (1, 1, TOKENS, 7), (HEADS, TOKENS, 7), (TOKENS, 1)])
@pytest.mark.parametrize("first", [False, True])
def test_added_masks(shape: tuple[int, ...], first: bool) -> None:
    b = Builder()
    query, key, value = four(b, 7)
    mask, scores = b.input(*shape), b("MatMul", query, turned(b, key))
    after = recognised(attend(b, b("Add", mask, scores) if first else b("Add", scores, mask), value))
    assert kinds(after) == ["+Attention"]


def test_a_mask_that_is_spread_out_is_read_where_it_was() -> None:
    b = Builder()
    query, key, value = four(b)
    mask = b.input(BATCH, TOKENS)
    wide = b("Expand", b("Reshape", mask, b.integers(BATCH, 1, 1, TOKENS)), b.integers(BATCH, 1, TOKENS, TOKENS))
    after = recognised(attend(b, b("Add", b("MatMul", query, turned(b, key)), wide), value))
    assert kinds(after) == ["+Attention"]
    assert attributes_of(after, "Attention", "mask") == [[0, TOKENS, 0, 0, 1]]


@pytest.mark.parametrize("keys", [TOKENS, TOKENS + 2])
@pytest.mark.parametrize("spelling", ["added", "where", "filled"])
def test_causal_masks(spelling: str, keys: int) -> None:
    b = Builder()
    query, key, value = four(b, keys)
    scores = b("MatMul", query, turned(b, key))
    seen = np.tril(np.ones((1, 1, TOKENS, keys), np.bool_), keys - TOKENS)
    if spelling == "added":
        scores = b("Add", scores, b.constant(np.where(seen, 0, LOWEST)))
    elif spelling == "where":
        scores = b("Where", b.constant(seen, np.bool_), scores, b.constant(LOWEST))
    else:
        scores = b("Where", b.constant(~seen, np.bool_), b.constant(-np.inf), scores)
    after = recognised(attend(b, scores, value))
    assert attributes_of(after, "Attention", "causal", "offset") == [1, keys - TOKENS]
    assert node_of(after, "Attention").inputs[3] is None


def test_a_condition_becomes_a_mask_and_joins_another() -> None:
    b = Builder()
    query, key, value = four(b)
    condition = b("Greater", b.input(BATCH, 1, 1, TOKENS), b.constant(-9.0))
    scores = b("Where", condition, b("MatMul", query, turned(b, key)), b.constant(LOWEST))
    after = recognised(attend(b, b("Add", scores, b.input(TOKENS, TOKENS)), value))
    assert kinds(after) == ["Greater", "Where", "Add", "+Attention"]


def test_heads_are_moved_by_strides() -> None:
    b = Builder()
    query, key, value = (b.input(BATCH, TOKENS, HEADS * WIDTH) for _ in range(3))
    scores = b("MatMul", heads(b, query), heads(b, key, 0, 2, 3, 1))
    y = b("Transpose", b("MatMul", b("Softmax", scores, axis=-1), heads(b, value)), perm=[0, 2, 1, 3])
    after = recognised(b.graph(b("Reshape", y, b.integers(0, 0, HEADS * WIDTH))))
    assert kinds(after) == ["+Attention", "+Reshape"]
    row = HEADS * WIDTH
    for name in ("query", "key", "value", "target"):
        assert attributes_of(after, "Attention", name) == [[0, TOKENS * row, WIDTH, row, 1]]


@pytest.mark.parametrize("taking", ["Split", "Slice", "Gather"])
def test_parts_of_one_projection_are_read_in_place(taking: str) -> None:
    b = Builder()
    packed, row = b.input(BATCH, TOKENS, 3 * HEADS * WIDTH), 3 * HEADS * WIDTH
    if taking == "Split":
        parts = b.many(3, "Split", packed, b.integers(*[HEADS * WIDTH] * 3), axis=2)
    elif taking == "Slice":
        ends = [(b.integers(i * HEADS * WIDTH), b.integers((i + 1) * HEADS * WIDTH)) for i in range(3)]
        parts = [b("Slice", packed, start, end, b.integers(2)) for start, end in ends]
    else:
        apart = b("Transpose", b("Reshape", packed, b.integers(0, 0, 3, HEADS, WIDTH)), perm=[2, 0, 3, 1, 4])
        parts = [b("Gather", apart, b.constant(i, np.int64), axis=0) for i in range(3)]
    query, key, value = parts if taking == "Gather" else [heads(b, part) for part in parts]
    after = recognised(attend(b, b("MatMul", query, turned(b, key)), value))
    assert kinds(after) == ["+Attention"]
    for index, name in enumerate(("query", "key", "value")):
        expected = [index * HEADS * WIDTH, TOKENS * row, WIDTH, row, 1]
        assert attributes_of(after, "Attention", name) == [expected]


def test_heads_taken_together_with_the_batch() -> None:
    b = Builder()
    query, key, value = (b.input(BATCH * HEADS, TOKENS, WIDTH) for _ in range(3))
    scores = b("MatMul", query, b("Transpose", key, perm=[0, 2, 1]))
    scores = b("Add", b("Reshape", scores, b.integers(BATCH, HEADS, TOKENS, TOKENS)), b.input(BATCH, 1, 1, TOKENS))
    weights = b("Softmax", b("Reshape", scores, b.integers(BATCH * HEADS, TOKENS, TOKENS)), axis=-1)
    y = b("Reshape", b("MatMul", weights, value), b.integers(BATCH, HEADS, TOKENS, WIDTH))
    after = recognised(b.graph(b("Transpose", y, perm=[0, 2, 1, 3])))
    assert kinds(after) == ["+Attention"]
    assert attributes_of(after, "Attention", "batch", "heads") == [BATCH, HEADS]


def test_one_head_of_two_axes() -> None:
    b = Builder()
    query, key, value = b.input(TOKENS, WIDTH), b.input(WIDTH, 7), b.input(7, 6)
    after = recognised(b.graph(b("MatMul", b("Softmax", b("MatMul", query, key), axis=1), value)))
    assert attributes_of(after, "Attention", "key") == [[0, 0, 0, 1, 7]]


@pytest.mark.parametrize(
    "flaw", ["weights are read elsewhere", "other axis", "scaled mask", "weak condition", "shared values are larger"]
)
def test_what_only_looks_alike(flaw: str) -> None:
    b = Builder()
    query, key, value = four(b)
    scores = b("MatMul", query, turned(b, key))
    if flaw == "scaled mask":
        scores = b("Mul", b("Add", scores, b.input(BATCH, 1, 1, TOKENS)), b.constant(0.5))
    if flaw == "weak condition":
        condition = b("Greater", b.input(BATCH, 1, 1, TOKENS), b.constant(0.0))
        scores = b("Where", condition, scores, b.constant(-2.0))
    if flaw == "shared values are larger":
        query, key, value = b.input(TOKENS, WIDTH), b.input(WIDTH, TOKENS), b.input(2, TOKENS, WIDTH)
        scores = b("MatMul", query, key)
    weights = b("Softmax", scores, axis=2 if flaw == "other axis" else -1)
    b.output(b("MatMul", weights, value), *([weights] if flaw == "weights are read elsewhere" else []))
    assert "+Attention" not in kinds(optimise(b.graph(), NAME))
