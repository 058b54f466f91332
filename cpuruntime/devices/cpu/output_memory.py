"""Own memory of a request for outputs of dynamic shape: results may be inputs of the next inference."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from math import prod

import numpy as np

from cpuruntime.host.memory import GrowingMemory, aligned_zeros


class OutputMemories:
    """Memory for outputs of elements `dtypes`, apart from all inputs.

    It grows by more than is needed, so that a result that grows in each inference is given new memory seldom.
    """

    def __init__(self, dtypes: Sequence[np.dtype]) -> None:
        self._dtypes = dtypes
        self._pieces = [[GrowingMemory(), GrowingMemory()] for _ in dtypes]
        """Of each output; the one that was taken last is the first."""
        self._begins: list[int] = []
        self._ends: list[int] = []
        """Of all pieces, in order, unless these have changed."""
        self._is_changed = False

    def lent(self, addresses: Iterable[int], inputs: Iterable[np.ndarray | None]) -> set[int]:
        """The addresses of the pieces in which inputs lie, given with their own."""
        if self._is_changed:
            pieces = sorted((one.address, one.address + one.size) for pair in self._pieces for one in pair if one.size)
            self._begins, self._ends = [begin for begin, _ in pieces], [end for _, end in pieces]
            self._is_changed = False
        begins, ends, found = self._begins, self._ends, set()
        for address, array in zip(addresses, inputs):
            place = 0 if array is None else bisect_left(begins, address + array.nbytes)
            while place and ends[place - 1] > address:
                place -= 1
                found.add(begins[place])
        return found

    def take(self, index: int, shape: tuple[int, ...], lent: Collection[int]) -> tuple[np.ndarray, int]:
        """An array of this shape, and its address, in memory that is not lent; it replaces the output's last one."""
        dtype = self._dtypes[index]
        if dtype.hasobject:
            array = aligned_zeros(shape, dtype)
            return array, array.ctypes.data
        piece, other = pair = self._pieces[index]
        size = prod(shape) * dtype.itemsize
        is_lent = piece.address in lent
        if is_lent or piece.size < size <= other.size:
            if other.address not in lent:
                pair[:] = other, piece
            elif is_lent:
                pair[:] = GrowingMemory(), piece
            piece = pair[0]
        if size <= piece.size and piece.size:
            return np.ndarray(shape, dtype, piece.memory), piece.address
        self._is_changed = True
        return piece.array(shape, dtype), piece.address
