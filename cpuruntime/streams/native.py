"""Memory and entries shared with the native runner."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

from cpuruntime.ops import runner


def aligned_bytes(size: int) -> np.ndarray:
    """`size` zero bytes that begin a cache line; nothing else lies on their lines."""
    space = np.zeros(-(-size // runner.LINE) * runner.LINE + runner.LINE, np.uint8)
    start = -space.ctypes.data % runner.LINE
    return space[start : start + size]


@cache
def notifier() -> Callable[[int, int, int], None]:
    """runner.notify, called with the GIL held: it neither waits nor takes long, and is safe in a finaliser."""
    return ctypes.PYFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(runner.notify.address)
