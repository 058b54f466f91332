"""Where the elements of arrays begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cpuruntime.host.memory import address_of


class Other(np.ndarray):
    """A kind of array of a user's."""


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, object])
def test_the_address_of_an_array(dtype: Any) -> None:
    memory = np.zeros((4, 6), dtype)
    frozen = memory[1:]
    frozen.flags.writeable = False
    views = [memory, memory[2:, 3:], memory[::-1], memory.T, frozen, memory[0, 0, ...], memory[:0], memory.view(Other)]
    assert [address_of(view) for view in views] == [view.ctypes.data for view in views]
