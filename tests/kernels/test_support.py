"""The helpers of kernel tests find what they are there to find."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from support.kernels import LANES, blocked, blocked_holding, guarded, holding


def poke(address: int, value: float = 1.0) -> None:
    ctypes.c_float.from_address(address).value = value


@pytest.mark.parametrize("elements", [-1, 6])
def test_a_write_around_an_array_is_found(elements: int) -> None:
    target = guarded((2, 3))
    target.check()
    poke(target.address + 4 * elements)
    with pytest.raises(AssertionError, match=f"first {4 * elements} "):
        target.check()


def test_a_write_into_the_gap_of_a_strided_array_is_found() -> None:
    target = guarded((2, 3), strides=(20, 4))
    target.array[...] = 1
    target.check()
    poke(target.address + 12)
    with pytest.raises(AssertionError):
        target.check()


def test_elements_start_unwritten_and_aligned_plus_offset() -> None:
    target = guarded((5,), offset=4)
    assert np.isnan(target.array).all()
    assert target.address % 64 == 4


def test_a_write_into_a_halo_is_found() -> None:
    target = blocked((1, LANES, 2, 2), halo=(1, 1, 1, 1))
    target.array[...] = 3
    target.check()
    poke(target.address - 4)
    with pytest.raises(AssertionError):
        target.check()


def test_blocked_round_trip() -> None:
    data = np.arange(2 * (LANES + 1) * 3 * 2, dtype=np.float32).reshape(2, LANES + 1, 3, 2)
    tensor = blocked_holding(data, halo=(0, 2, 1, 0))
    assert tensor.array.shape == (2, 2, 3, 2, LANES)
    np.testing.assert_array_equal(tensor.plain(), data)
    assert tensor.fields("source")["source_row"] == tensor.array.strides[2]


def test_holding_copies() -> None:
    data = np.arange(6, dtype=np.int64).reshape(2, 3)
    copy = holding(data, strides=(64, 8))
    np.testing.assert_array_equal(copy.array, data)
    assert copy.array.strides == (64, 8)
