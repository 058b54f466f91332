"""The vector type's operators agree with NumPy's, NaN included."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from support.kernels import LANES, block, guarded, holding

from cpuruntime.compiler.kernel import Kernel, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")
ARGUMENTS = record(a="i8", b="i8", target="i8")
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]
SPECIAL = np.array([1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)


@cache
def comparisons() -> Kernel:
    lt, le, gt, ge, eq, ne = COMPARISONS

    @kernel(ARGUMENTS, name="test_comparisons")
    def run(a, thread, threads):
        x, y = simd.load(a.a), simd.load(a.b)
        yes, no = simd.broadcast(1.0), simd.broadcast(0.0)
        simd.store(a.target, simd.select(lt(x, y), yes, no))
        simd.store(a.target + 4 * LANES, simd.select(le(x, y), yes, no))
        simd.store(a.target + 8 * LANES, simd.select(gt(x, y), yes, no))
        simd.store(a.target + 12 * LANES, simd.select(ge(x, y), yes, no))
        simd.store(a.target + 16 * LANES, simd.select(eq(x, y), yes, no))
        simd.store(a.target + 20 * LANES, simd.select(ne(x, y), yes, no))

    return run


@cache
def arithmetic() -> Kernel:
    add, sub, mul, div = BINARY

    @kernel(ARGUMENTS, name="test_arithmetic")
    def run(a, thread, threads):
        x, y = simd.load(a.a), simd.load(a.b)
        simd.store(a.target, add(x, y))
        simd.store(a.target + 4 * LANES, sub(x, y))
        simd.store(a.target + 8 * LANES, mul(x, y))
        simd.store(a.target + 12 * LANES, div(x, y))
        simd.store(a.target + 16 * LANES, simd.maximum(x, y))
        simd.store(a.target + 20 * LANES, simd.minimum(x, y))

    return run


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """All pairs of special values, a vector at a time."""
    a, b = (m.ravel() for m in np.meshgrid(SPECIAL, SPECIAL))
    return [(np.resize(a[i:], LANES), np.resize(b[i:], LANES)) for i in range(0, len(a), LANES)]


def apply(item: Kernel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    target = guarded((6, LANES))
    left, right = holding(a), holding(b)
    item(block(item, a=left.address, b=right.address, target=target.address))
    target.check()
    return target.array


@pytest.mark.every_isa
def test_comparisons() -> None:
    for a, b in pairs():
        expected = [op(a, b) for op in COMPARISONS]
        np.testing.assert_array_equal(apply(comparisons(), a, b), np.array(expected, np.float32))


def first_by(a: np.ndarray, b: np.ndarray, before: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """a where it comes first, else b: what maximum and minimum promise for NaN."""
    return np.where(before(a, b), a, b)


@pytest.mark.every_isa
def test_arithmetic() -> None:
    for a, b in pairs():
        with np.errstate(all="ignore"):
            expected = [op(a, b) for op in BINARY] + [first_by(a, b, operator.gt), first_by(a, b, operator.lt)]
        np.testing.assert_array_equal(apply(arithmetic(), a, b), np.array(expected, np.float32))
