"""Memory and entries shared with the native runner."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.streams.native import runner, signals


def aligned_bytes(size: int) -> np.ndarray:
    """`size` zero bytes that begin a cache line; nothing else lies on their lines."""
    space = np.zeros(-(-size // signals.LINE) * signals.LINE + signals.LINE, np.uint8)
    start = -space.ctypes.data % signals.LINE
    return space[start : start + size]


def notifier() -> Callable[[int, int, int], None]:
    """signals.notify, called with the GIL held: it is safe in a finaliser."""
    return holding_the_gil(signals.notify)


@cache
def holding_the_gil(entry: Kernel) -> Callable[[int, int, int], None]:
    """An entry that neither waits nor takes long, as a function that keeps the GIL."""
    return ctypes.PYFUNCTYPE(None, *_WORDS)(entry.address)


@cache
def lead() -> Callable[[int, int, int], None]:
    """runner.lead without the GIL."""
    return ctypes.CFUNCTYPE(None, *_WORDS)(runner.lead.address)


# Words of 64 bits like int64, which ctypes takes twice as long to convert.
_WORDS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
