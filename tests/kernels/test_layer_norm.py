"""Layer normalisation of rows, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, edge_sizes, guarded, holding, run

from cpuruntime.ops.layer_norm import layer_norm

EPSILON = 1e-5


def expected(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, centered: bool) -> np.ndarray:
    x = x.astype(np.float64)
    x = x - x.mean(1, keepdims=True) if centered else x
    y = x / np.sqrt((x * x).mean(1, keepdims=True) + EPSILON)
    y = y if scale is None else y * scale
    return y if shift is None else y + shift


def apply(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, centered: bool) -> np.ndarray:
    target, source = guarded(x.shape, offset=4), holding(x, offset=4)
    parameters = [None if p is None else holding(p) for p in (scale, shift)]
    addresses = [0 if p is None else p.address for p in parameters]
    run(
        layer_norm(centered), target, source=source.address, target=target.address, scale=addresses[0],
        shift=addresses[1], rows=len(x), length=x.shape[1], epsilon=EPSILON,
    )  # fmt: skip
    return target.array


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).normal(3, 5, shape).astype(np.float32)


@pytest.mark.every_isa
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("length", [*edge_sizes(), 768])
def test_lengths(length: int, centered: bool) -> None:
    x, scale, shift = values(5, length), values(length), values(length)
    found = apply(x, scale, shift, centered)
    np.testing.assert_allclose(found, expected(x, scale, shift, centered), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("has_scale", [True, False])
@pytest.mark.parametrize("has_shift", [True, False])
def test_scale_and_shift_are_optional(has_scale: bool, has_shift: bool, centered: bool) -> None:
    length = 2 * LANES + 3
    x = values(3, length)
    scale, shift = values(length) if has_scale else None, values(length) if has_shift else None
    found = apply(x, scale, shift, centered)
    np.testing.assert_allclose(found, expected(x, scale, shift, centered), rtol=1e-5, atol=1e-5)


def test_a_far_mean_costs_no_accuracy() -> None:
    x = values(4, 256) + 10_000
    np.testing.assert_allclose(apply(x, None, None, True), expected(x, None, None, True), rtol=1e-4, atol=2e-3)


def test_in_place_and_not_a_number() -> None:
    x = values(4, 100)
    x[1, 5], x[2, 99] = np.nan, np.inf
    memory = holding(x)
    record = np.zeros((), layer_norm().arguments)
    for name, value in dict(
        source=memory.address, target=memory.address, rows=4, length=100, epsilon=EPSILON
    ).items():
        record[name] = value
    layer_norm()(record, threads=2)
    memory.check()
    assert np.isnan(memory.array[1:3]).all()
    np.testing.assert_allclose(memory.array[[0, 3]], expected(x[[0, 3]], None, None, True), rtol=1e-5, atol=1e-5)
