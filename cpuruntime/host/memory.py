"""Aligned memory for programs and tensors, limited by that of the machine."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from cpuruntime.errors import OutOfMemoryError
from cpuruntime.host.cgroup import memory_left, memory_limit
from cpuruntime.host.sysfs import read_text

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""

_word_at = ctypes.c_size_t.from_address
_HEAD = object.__basicsize__

HUGE_PAGE = 2 * 2**20
LARGEST_SLAB = 32 * 2**20


def address_of(array: np.ndarray) -> int:
    """Where an array's elements begin: `array.ctypes.data`, which takes several times as long.

    An array's record begins with that, behind what all objects begin with: extensions compiled for NumPy rely on it.
    """
    return _word_at(id(array) + _HEAD).value


def round_up(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@cache
def machine_memory() -> int:
    """Bytes of memory that the machine has, or that the process's control group may use of it."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(there, memory_limit() or there)


def available_memory() -> int:
    """Bytes of memory that the process can take now; 0 where that is not known."""
    lines = read_text(Path("/proc/meminfo")).splitlines()
    there = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    left = memory_left()
    return there if left is None else min(there, left)


def check_fits(size: int, what: str) -> None:
    """OutOfMemoryError when `what`, a plural, takes more bytes than the machine has.

    The system grants much more than there is, and kills the process that uses it.
    """
    if size > machine_memory():
        needed, there = size / 2**30, machine_memory() / 2**30
        raise OutOfMemoryError(f"{what} need {needed:.1f} GiB; this machine has {there:.1f} GiB of memory.")


def allocate(size: int) -> np.ndarray:
    """`size` zeroed bytes, aligned; from 2 MiB on in whole huge pages where the system gives them. OutOfMemoryError."""
    if size < HUGE_PAGE:
        return _aligned(np.zeros(size + ALIGNMENT, np.uint8), size, ALIGNMENT)
    check_fits(size, "the model's values or weights")
    try:
        pages = mmap.mmap(-1, size + 2 * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise OutOfMemoryError(f"the system refuses {size / 2**30:.1f} GiB of memory: {error.strerror}.") from error
    pages.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(np.frombuffer(pages, np.uint8), size, HUGE_PAGE)


class Slabs:
    """Memory in pieces, one after the other in slabs, so that small ones lie on huge pages, too.

    A slab is about as large as all those before it, up to LARGEST_SLAB. It is freed with the last of its pieces.
    """

    def __init__(self) -> None:
        self._slab = np.zeros(0, np.uint8)
        self._taken = 0

    def take(self, size: int) -> np.ndarray:
        """`size` zeroed bytes, aligned. OutOfMemoryError."""
        whole = round_up(size)
        if whole > self._slab.size:
            self._slab = allocate(max(whole, min(self._taken, LARGEST_SLAB)))
        piece, self._slab = self._slab[:size], self._slab[whole:]
        self._taken += whole
        return piece


def _aligned(raw: np.ndarray, size: int, alignment: int) -> np.ndarray:
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


def aligned_zeros(shape: Iterable[int], dtype: np.dtype) -> np.ndarray:
    """A C-contiguous array of zeros (empty strings where `dtype` is object), its first element 64-byte aligned.

    Raises OutOfMemoryError for more than the machine has.
    """
    shape = tuple(shape)
    size = prod(shape) * dtype.itemsize
    if size > machine_memory():  # seldom, and the sentence takes time
        check_fits(size, f"the elements of a tensor of shape {list(shape)}")
    if dtype.hasobject:
        return np.full(shape, "", dtype)
    return _aligned(np.zeros(size + ALIGNMENT, np.uint8), size, ALIGNMENT).view(dtype).reshape(shape)


class GrowingMemory:
    """Memory for arrays of changing shapes, one at a time: all begin at `address`, 64-byte aligned; `size` in bytes.

    `memory` are the bytes, uint8[size].
    """

    def __init__(self) -> None:
        self.memory = np.zeros(0, np.uint8)
        self.address = self.size = 0

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A C-contiguous array in the memory, which grows to a quarter more; arrays made before stay valid then.

        Raises OutOfMemoryError for more than the machine has.
        """
        size = prod(shape) * dtype.itemsize
        if size > self.size or not self.address:
            check_fits(size, f"the elements of a tensor of shape {list(shape)}")
            self.memory = allocate(max(size * 5 // 4, ALIGNMENT))
            self.address, self.size = self.memory.ctypes.data, self.memory.size
        return np.ndarray(shape, dtype, self.memory)
