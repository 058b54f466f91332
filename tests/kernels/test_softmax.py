"""Softmax and LogSoftmax along rows and columns, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, edge_sizes, guarded, holding, run

from cpuruntime.ops.softmax import softmax_kernel


def softmax(x: np.ndarray, logarithm: bool) -> np.ndarray:
    shifted = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    return shifted - np.log(total) if logarithm else np.exp(shifted) / total


def apply(x: np.ndarray, logarithm: bool, offset: int = 0) -> np.ndarray:
    """`x` is [outer, length, inner]."""
    target, source = guarded(x.shape, offset=offset), holding(x, offset=offset)
    outer, length, inner = x.shape
    run(
        softmax_kernel(logarithm), target,
        source=source.address, target=target.address, outer=outer, length=length, inner=inner,
    )  # fmt: skip
    return target.array


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 5, shape).astype(np.float32)


@pytest.mark.every_isa
@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("length", [*edge_sizes(), 1000])
def test_rows(length: int, logarithm: bool) -> None:
    x = values((5, length, 1)) - 300
    np.testing.assert_allclose(apply(x, logarithm, offset=4), softmax(x, logarithm), rtol=2e-6, atol=2e-6 * logarithm)


@pytest.mark.every_isa
@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("inner", [2, *edge_sizes()[1:]])
def test_columns(inner: int, logarithm: bool) -> None:
    for length in (1, 7):
        x = values((3, length, inner)) + 300
        np.testing.assert_allclose(apply(x, logarithm), softmax(x, logarithm), rtol=2e-6, atol=2e-6 * logarithm)


@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("inner", [1, 3])
def test_masked_and_invalid_slices(inner: int, logarithm: bool) -> None:
    """Minus infinity weighs nothing; NaN, infinity and nothing but minus infinities make their own slice NaN."""
    x = values((5, LANES + 3, inner))
    x[0, ::2] = -np.inf
    x[1, 2, 0] = np.nan
    x[2, 3, 0] = np.inf
    x[3, :, 0] = -np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = softmax(x, logarithm)
    np.testing.assert_allclose(apply(x, logarithm), expected, rtol=2e-6, atol=2e-6 * logarithm)
    assert np.isnan(expected[1:4, :, 0]).all()
    assert not np.isnan(expected[[0, 4]]).any()


def test_nothing_to_do() -> None:
    for shape in ((0, 5, 1), (3, 5, 0), (3, 0, 1)):
        assert apply(np.zeros(shape, np.float32), False).shape == shape


@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("inner", [1, 3])
def test_in_place(inner: int, logarithm: bool) -> None:
    x = values((2, 2 * LANES + 1, inner))
    memory = holding(x)
    record = np.zeros((), softmax_kernel(logarithm).arguments)
    record["source"] = record["target"] = memory.address
    record["outer"], record["length"], record["inner"] = x.shape
    softmax_kernel(logarithm)(record, threads=2)
    memory.check()
    np.testing.assert_array_equal(memory.array, apply(x, logarithm))
