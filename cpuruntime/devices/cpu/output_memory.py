"""Own memory of a request for outputs of dynamic shape: results may be inputs of the next inference."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import prod

import numpy as np

from cpuruntime.host.memory import GrowingMemory, aligned_zeros


class OutputMemory:
    """Memory for an output of elements `dtype`, apart from all inputs.

    It grows by more than is needed, so that a result that grows in each inference is given new memory seldom.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._pieces = [GrowingMemory(), GrowingMemory()]
        """The one that was taken last is the first."""

    def take(self, shape: tuple[int, ...], read: Spans | None) -> tuple[np.ndarray, int]:
        """An array of this shape, and its address, in none of the memory that inputs read; it replaces the last one."""
        if self._dtype.hasobject:
            array = aligned_zeros(shape, self._dtype)
            return array, array.ctypes.data
        piece, other = self._pieces
        if read is not None and read.overlap(piece.address, piece.size):
            if read.overlap(other.address, other.size):
                other = GrowingMemory()
            piece, self._pieces = other, [other, piece]
        elif piece.size < prod(shape) * self._dtype.itemsize <= other.size and (
            read is None or not read.overlap(other.address, other.size)
        ):
            piece, self._pieces = other, [other, piece]
        return piece.array(shape, self._dtype), piece.address


class Spans:
    """Pieces of memory, (address, bytes) each."""

    def __init__(self, pieces: Sequence[tuple[int, int]]) -> None:
        spans = sorted([(address, address + size) for address, size in pieces])
        self._begins = [begin for begin, _ in spans]
        self._furthest = list(accumulate([end for _, end in spans], max))

    def overlap(self, address: int, size: int) -> bool:
        """Whether one of them has bytes of another piece."""
        before = bisect_left(self._begins, address + size)
        return before > 0 and self._furthest[before - 1] > address
