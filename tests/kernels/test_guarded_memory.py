"""The guarded memory of kernel tests: a byte that is written outside of an array's elements is found."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from support.kernels import LANES, Guarded, blocked, guarded, holding

WHOLE = holding(np.ones((3, 5), np.float32))
STRIDED = guarded((3, 5), strides=(32, 4), offset=4)
BLOCKED = blocked((1, 3, 2, 4), halo=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("one", "offset"), [(WHOLE, -1), (WHOLE, 60), (STRIDED, -256), (STRIDED, 20), (BLOCKED, -1), (BLOCKED, 16 * LANES)]
)
def test_a_byte_outside_is_found(one: Guarded, offset: int) -> None:
    one.erase()
    assert (one.array.view(np.int32) == -1).all()
    one.array[...] = 7
    one.check()
    byte = ctypes.c_uint8.from_address(one.address + offset)
    byte.value ^= 1
    with pytest.raises(AssertionError, match=f"1 bytes outside were written, the first {offset} from"):
        one.check()
    byte.value ^= 1
    one.check()
