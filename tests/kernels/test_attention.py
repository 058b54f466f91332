"""Blocked attention against float64: edge sizes, strides, masks, shared keys."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.kernels import LANES, Guarded, guarded, holding, run

from cpuruntime.ops.attention import (
    ROWS,
    ZEROS,
    attention,
    attention_single,
    scratch_layout,
    single_layout,
    value_columns,
)
from cpuruntime.ops.bf16_attention import bf16_attention, words_of

THREADS = (1, 2, 3)


def expected(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, mask: np.ndarray | None) -> np.ndarray:
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, 1).astype(np.float64) for x in (k, v))
    scores = q.astype(np.float64) @ k.transpose(0, 1, 3, 2) * scale
    scores = scores if mask is None else scores + mask
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def strides(tensor: Guarded, name: str, last: str = "") -> dict[str, int]:
    names = [name, f"{name}_batch", f"{name}_head", f"{name}_row", *([last] if last else [])]
    return dict(zip(names, (tensor.address, *tensor.array.strides)))


def rows_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of [batch, head, row, column] in memory that lies [batch, row, head, column]."""
    _, heads, rows, columns = shape
    return (rows * heads * columns * 4, columns * 4, heads * columns * 4, 4)


def apply(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *, scale: float = 0.125, mask: np.ndarray | None = None,
    causal: bool = False, offset: int = 0, block: int = 2 * ROWS, interleaved: bool = False, turned: bool = False,
    single: bool = False, bf16: bool = False,
) -> np.ndarray:  # fmt: skip
    batch, heads, queries, depth = q.shape
    keys, width = v.shape[2:]
    shape = (batch, heads, queries, width)
    target = guarded(shape, strides=rows_first(shape) if interleaved else None)
    held = [holding(x, rows_first(x.shape) if interleaved else None) for x in (q, k, v)]
    if turned:
        held[1] = holding(k, (heads * depth * keys * 4, depth * keys * 4, 4, keys * 4))
    fields: dict[str, Any] = strides(target, "target") | strides(held[0], "query") | strides(held[2], "value")
    fields |= strides(held[1], "key", "key_column")
    layout = scratch_layout(keys, depth, width, block, (words_of(depth), words_of(keys)) if bf16 else None)
    if single:
        layout = dict.fromkeys(layout, 0) | single_layout(keys, depth)
    scratch, zeros = guarded((layout["scratch_size"] * len(THREADS) // 4,)), holding(np.zeros(ZEROS, np.float32))
    masked = dict.fromkeys(("mask", "mask_batch", "mask_head", "mask_row", "mask_column"), 0)
    if mask is not None:
        kept = holding(mask)
        masked["mask"] = kept.address
        for axis, name in enumerate(("batch", "head", "row", "column")):
            masked[f"mask_{name}"] = kept.array.strides[axis] if mask.shape[axis] > 1 else 0
    blocked = (bf16_attention if bf16 else attention)(value_columns(width))
    run(
        attention_single if single else blocked, target, **fields, **layout, **masked,
        batch=batch, heads=heads,
        group=heads // k.shape[1], queries=queries, keys=keys, depth=depth, width=width, block=block, causal=causal,
        offset=offset, scale=scale, zeros=zeros.address, scratch=scratch.address, threads=THREADS,
    )  # fmt: skip
    scratch.check()
    return target.array


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


@pytest.mark.every_isa
@pytest.mark.parametrize("queries", [2, ROWS, 2 * ROWS + 1])
@pytest.mark.parametrize("keys", [1, LANES - 1, LANES, 4 * LANES + 5])
@pytest.mark.parametrize("depth", [3, LANES, 4 * LANES + 1])
def test_products_of_bf16(queries: int, keys: int, depth: int) -> None:
    q, k, v = values(2, 4, queries, depth), values(2, 2, keys, depth, seed=1), values(2, 2, keys, depth, seed=2)
    mask = values(1, 1, queries, keys, seed=3)
    k2, v2 = (np.repeat(rounded(x), 2, 1) for x in (k, v))
    scores = rounded(q * np.float32(0.125)) @ k2.transpose(0, 1, 3, 2) + mask
    for causal in (False, True):
        seen = np.arange(keys) <= np.arange(queries)[:, None] if causal else True
        e = np.where(seen, np.exp(scores - np.where(seen, scores, -np.inf).max(-1, keepdims=True)), 0)
        wanted = rounded(e) @ v2 / e.sum(-1, keepdims=True)
        for how in ({"interleaved": True}, {"turned": True}):
            found = apply(q, k, v, mask=mask, causal=causal, bf16=True, **how)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=4e-3)  # a weight may be rounded to the other side
            assert np.abs(found - wanted).mean() < 2e-4


def check(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, **more: Any) -> None:
    visible = mask
    if more.get("causal"):
        seen = np.arange(k.shape[2]) <= np.arange(q.shape[2])[:, None] + more.get("offset", 0)
        visible = np.where(seen, 0, -np.inf)
    wanted = expected(q, k, v, more.get("scale", 0.125), visible)
    for single in {False, q.shape[2] == 1}:
        found = apply(q, k, v, mask=mask, single=single, **more)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.every_isa
@pytest.mark.parametrize("queries", [1, ROWS - 1, ROWS, 2 * ROWS + 1, 5 * ROWS - 1])
def test_queries(queries: int) -> None:
    check(values(2, 2, queries, 8), values(2, 2, 19, 8, seed=1), values(2, 2, 19, 16, seed=2))


@pytest.mark.every_isa
@pytest.mark.parametrize("keys", [1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES, 4 * LANES + 5])
def test_keys(keys: int) -> None:
    check(values(1, 2, 9, 8), values(1, 2, keys, 8, seed=1), values(1, 2, keys, 16, seed=2))


@pytest.mark.parametrize("depth", [1, 3, LANES - 1, LANES, LANES + 1, 4 * LANES, 80])
@pytest.mark.parametrize("turned", [False, True])
def test_depths(depth: int, turned: bool) -> None:
    check(values(1, 2, 9, depth), values(1, 2, 21, depth, seed=1), values(1, 2, 21, 16, seed=2), turned=turned)


@pytest.mark.every_isa
@pytest.mark.parametrize("width", [1, LANES - 1, LANES, LANES + 1, 2 * LANES, 3 * LANES, 5 * LANES + 1])
def test_widths(width: int) -> None:
    check(values(1, 2, 9, 8), values(1, 2, 21, 8, seed=1), values(1, 2, 21, width, seed=2))


@pytest.mark.every_isa
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("keys", "depth", "width"),
    [(1, 1, 1), (LANES + 1, 3, LANES), (5, 2 * LANES, 4 * LANES), (37, 5 * LANES + 3, 9 * LANES + 2), (70, 64, 64)],
)
def test_one_query(keys: int, depth: int, width: int, turned: bool) -> None:
    q, k, v = values(2, 6, 1, depth), values(2, 3, keys, depth, seed=1), values(2, 3, keys, width, seed=2)
    check(q, k, v, values(2, 1, 1, keys, seed=3), turned=turned, interleaved=not turned)
    check(q, k, v, causal=True, offset=max(0, keys - 2), turned=turned)


def test_heads_that_lie_side_by_side() -> None:
    q, k, v = (values(2, 3, 21, 8, seed=seed) for seed in range(3))
    check(q, k, v, interleaved=True)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 1, 1, 21), (1, 3, 1, 21), (1, 1, 17, 21), (2, 3, 17, 21), (1, 1, 17, 1)]
)
def test_masks(shape: tuple[int, ...]) -> None:
    q, k, v = values(2, 3, 17, 8), values(2, 3, 21, 8, seed=1), values(2, 3, 21, 8, seed=2)
    check(q, k, v, values(*shape, seed=3))


def test_masked_keys_weigh_nothing_and_a_row_without_keys_is_not_a_number() -> None:
    q, k, v = values(1, 2, 17, 8), values(1, 2, 21, 8, seed=1), values(1, 2, 21, 8, seed=2)
    mask = np.where(values(1, 1, 17, 21, seed=4) > 0, -np.inf, 0).astype(np.float32)
    mask[0, 0, :, 5] = 0
    check(q, k, v, mask)
    mask[0, 0, 3] = -np.inf
    found = apply(q, k, v, mask=mask)
    assert np.isnan(found[:, :, 3]).all()
    assert not np.isnan(np.delete(found, 3, 2)).any()


@pytest.mark.every_isa
@pytest.mark.parametrize(("queries", "keys"), [(37, 37), (5, 37), (37, 40), (1, 20)])
def test_causal(queries: int, keys: int) -> None:
    q, k, v = values(1, 2, queries, 8), values(1, 2, keys, 8, seed=1), values(1, 2, keys, 16, seed=2)
    check(q, k, v, causal=True, offset=keys - queries)


def test_heads_that_share_keys() -> None:
    check(values(2, 6, 17, 8), values(2, 2, 21, 8, seed=1), values(2, 2, 21, 16, seed=2))


def test_large_scores_do_not_overflow() -> None:
    q, k = values(1, 1, 9, 8) * 100, values(1, 1, 21, 8, seed=1) * 100
    found = apply(q, k, values(1, 1, 21, 16, seed=2), scale=1.0)
    np.testing.assert_allclose(found, expected(q, k, values(1, 1, 21, 16, seed=2), 1.0, None), rtol=0, atol=2e-2)
