"""Sums of bytes with integer weights along an axis, against NumPy's int64."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, guarded, holding, run

from cpuruntime.ops.byte_sums import sum_byte_pixels, sum_byte_rows

pytestmark = pytest.mark.every_isa

BITS, EXTENT, COUNT = 22, 3 * LANES + 5, 7


def case(taps: int, inner: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bytes [2, EXTENT, inner], starts, weights [COUNT, taps] as large as the range of int32 allows, and the sums."""
    rng = np.random.default_rng(taps + inner)
    x = rng.integers(0, 256, (2, EXTENT, inner)).astype(np.uint8)
    x[0, ::2], x[1, 1::2] = 255, 0
    starts = rng.integers(0, EXTENT - taps + 1, COUNT)
    starts[-1] = EXTENT - taps
    weights = rng.integers(-(2**23) // taps, 2**23 // taps, (COUNT, taps)).astype(np.int32)
    windows = x[:, starts[:, None] + np.arange(taps)].astype(np.int64)
    sums = np.einsum("oitc,it->oic", windows, weights.astype(np.int64)) + (1 << (BITS - 1))
    return x, starts, weights, np.clip(sums >> BITS, 0, 255)


@pytest.mark.parametrize("inner", [1, 3, LANES - 1, LANES, 2 * LANES + 3])
@pytest.mark.parametrize("taps", [1, 6])
def test_rows(taps: int, inner: int) -> None:
    x, starts, weights, want = case(taps, inner)
    given, table, numbers, result = holding(x), holding(starts), holding(weights), guarded(want.shape, np.uint8)
    run(
        sum_byte_rows, result, source=given.address, target=result.address, outer=2, extent=EXTENT, count=COUNT,
        inner=inner, starts=table.address, weights=numbers.address, taps=taps, bits=BITS,
    )  # fmt: skip
    np.testing.assert_array_equal(result.array, want)


@pytest.mark.parametrize("inner", [1, 3, 4])
@pytest.mark.parametrize("blocks", [1, 2])
def test_pixels(blocks: int, inner: int) -> None:
    x, starts, weights, want = case(blocks * LANES, inner)
    given, table, result = holding(x), holding(starts), guarded(want.shape, np.uint8)
    numbers, scratch = holding(np.repeat(weights, inner, 1)), guarded((3, inner * LANES), np.int32)
    run(
        sum_byte_pixels, result, source=given.address, target=result.address, outer=2, extent=EXTENT, count=COUNT,
        inner=inner, starts=table.address, weights=numbers.address, blocks=blocks, bits=BITS, scratch=scratch.address,
    )  # fmt: skip
    scratch.check()
    np.testing.assert_array_equal(result.array, want)
