"""Memory for tensors."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from cpuruntime.program.memory import ALIGNMENT, check_fits


def aligned_zeros(shape: Iterable[int], dtype: np.dtype) -> np.ndarray:
    """A C-contiguous array of zeros (empty strings where `dtype` is object), its first element 64-byte aligned.

    Raises OutOfMemoryError for more than the machine has.
    """
    shape = tuple(shape)
    check_fits(prod(shape) * dtype.itemsize, f"the elements of a tensor of shape {list(shape)}")
    if dtype.hasobject:
        return np.full(shape, "", dtype)
    size = prod(shape) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
