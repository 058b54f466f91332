"""Reductions over every kind of axes, against float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from support.kernels import LANES, edge_sizes, guarded, holding, run

from cpuruntime.ops.reduce import REDUCTIONS, VECTOR_REDUCTIONS, reduce_kernel, reduction

Reference = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]

REFERENCE: dict[str, Reference] = {
    "ReduceSum": lambda x, axes: x.sum(axis=axes),
    "ReduceMean": lambda x, axes: x.mean(axis=axes),
    "ReduceMax": lambda x, axes: x.max(axis=axes),
    "ReduceMin": lambda x, axes: x.min(axis=axes),
    "ReduceProd": lambda x, axes: x.prod(axis=axes),
    "ReduceL1": lambda x, axes: np.abs(x).sum(axis=axes),
    "ReduceL2": lambda x, axes: np.sqrt(np.square(x).sum(axis=axes)),
    "ReduceSumSquare": lambda x, axes: np.square(x).sum(axis=axes),
    "ReduceLogSum": lambda x, axes: np.log(x.sum(axis=axes)),
    "ReduceLogSumExp": lambda x, axes: np.log(np.exp(x - x.max()).sum(axis=axes)) + x.max(),
}


def apply(op: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    target = guarded(tuple(n for axis, n in enumerate(x.shape) if axis not in axes), x.dtype)
    source = holding(x)
    kernel = reduce_kernel(op, x.dtype.name)
    run(kernel, target, source=source.address, target=target.address, **reduction(x.shape, axes))
    return target.array


def values(shape: tuple[int, ...]) -> np.ndarray:
    """Around 1, so that products stay in range."""
    return np.random.default_rng(0).uniform(0.8, 1.25, shape).astype(np.float32)


def test_every_operator_has_a_reference() -> None:
    assert REFERENCE.keys() == VECTOR_REDUCTIONS.keys()


@pytest.mark.parametrize("op", sorted(REFERENCE))
@pytest.mark.parametrize("axes", [(2,), (1,), (0, 2), (0, 1, 2)])
def test_operators(op: str, axes: tuple[int, ...]) -> None:
    x = values((3, 5, 4 * LANES + 3))
    expected = REFERENCE[op](x.astype(np.float64), axes)
    np.testing.assert_allclose(apply(op, x, axes), expected, rtol=3e-5 if op == "ReduceProd" else 1e-6)


@pytest.mark.every_isa
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceLogSumExp"])
@pytest.mark.parametrize("size", edge_sizes())
def test_edge_sizes(op: str, size: int) -> None:
    for shape, axes in (((2, 3, size), (2,)), ((2, size, 3), (1,)), ((2, 3, size), (0,)), ((3, size, 2), (0, 2))):
        x = -20 * values(shape)
        expected = REFERENCE[op](x.astype(np.float64), axes)
        np.testing.assert_allclose(apply(op, x, axes), expected, rtol=1e-6)


@pytest.mark.parametrize("axes", [axes for count in range(5) for axes in combinations(range(4), count)])
def test_axes(axes: tuple[int, ...]) -> None:
    for shape in ((2, 3, 4, 5), (2, 1, 4, 5), (1, 3, 1, 5), (1, 1, 1, 1)):
        x = values(shape)
        np.testing.assert_allclose(apply("ReduceSum", x, axes), x.astype(np.float64).sum(axis=axes), rtol=1e-6)


def test_three_groups_of_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="two groups"):
        reduction((2, 3, 4, 5, 6), (0, 2, 4))
    assert reduction((2, 3, 4, 1, 6), (0, 2, 3)) == {"outer": 1, "repeats": 2, "middle": 3, "length": 4, "inner": 6}


@pytest.mark.parametrize("axes", [(1,), (0,)])
def test_nan_reaches_max_and_min(axes: tuple[int, ...]) -> None:
    for where in (0, 5, 2 * LANES):
        x = values((2 * LANES + 1, 2 * LANES + 1))
        x[where, where] = np.nan
        for op in ("ReduceMax", "ReduceMin"):
            np.testing.assert_array_equal(apply(op, x, axes), REFERENCE[op](x, axes))


def test_log_sum_exp_of_infinities() -> None:
    x = np.full((3, LANES + 1), -np.inf, np.float32)
    x[1, 4] = np.inf
    x[2, 4] = 2
    np.testing.assert_array_equal(apply("ReduceLogSumExp", x, (1,)), np.array([-np.inf, np.inf, 2], np.float32))


@pytest.mark.parametrize(
    ("op", "neutral"), [("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf)]
)
def test_reducing_nothing_gives_the_neutral_element(op: str, neutral: float) -> None:
    assert (apply(op, np.zeros((3, 0), np.float32), (1,)) == neutral).all()
    assert (apply(op, np.zeros((0, 3), np.float32), (0,)) == neutral).all()


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        ("ReduceSum", "int64"),
        ("ReduceProd", "int64"),
        ("ReduceMax", "int32"),
        ("ReduceMin", "uint8"),
        ("ReduceMax", "float64"),
        ("ReduceSum", "float64"),
    ],
)
def test_other_types(op: str, dtype: str) -> None:
    assert (op, dtype) in REDUCTIONS
    x = (np.random.default_rng(0).normal(0, 50, (3, 5, 7))).astype(np.int8).astype(dtype)
    for axes in ((2,), (1,), (0, 2)):
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(apply(op, x, axes), REFERENCE[op](x, axes))


def test_long_sums_stay_accurate() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (1, 200_000)).astype(np.float32)
    np.testing.assert_allclose(apply("ReduceSum", x, (1,)), x.astype(np.float64).sum(axis=1), rtol=1e-6)
