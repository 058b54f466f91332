"""Memory and entries shared with the native runner."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

from cpuruntime.ops import runner
from cpuruntime.ops.jit import Kernel


def aligned_bytes(size: int) -> np.ndarray:
    """`size` zero bytes that begin a cache line; nothing else lies on their lines."""
    space = np.zeros(-(-size // runner.LINE) * runner.LINE + runner.LINE, np.uint8)
    start = -space.ctypes.data % runner.LINE
    return space[start : start + size]


@cache
def notifier() -> Callable[[int, int, int], None]:
    """runner.notify, called with the GIL held: it neither waits nor takes long, and is safe in a finaliser."""
    return _holding_the_gil(runner.notify)


@cache
def recaller() -> Callable[[int, int, int], None]:
    """runner.recall, likewise."""
    return _holding_the_gil(runner.recall)


@cache
def quick_lead() -> Callable[[int, int, int], None]:
    """runner.lead, likewise, for jobs of one thread that take less than a change of the GIL's owner."""
    return _holding_the_gil(runner.lead)


@cache
def lead() -> Callable[[int, int, int], None]:
    """runner.lead without the GIL."""
    return ctypes.CFUNCTYPE(None, *_WORDS)(runner.lead.address)


def _holding_the_gil(entry: Kernel) -> Callable[[int, int, int], None]:
    return ctypes.PYFUNCTYPE(None, *_WORDS)(entry.address)


# Words of 64 bits like int64, which ctypes takes twice as long to convert.
_WORDS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
