"""Evaluation: formulas as data, which one native call computes for the extents of a model's inputs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from cpuruntime.errors import OutOfMemoryError
from cpuruntime.graph import SMALLEST_EXTENT
from cpuruntime.host.memory import ALIGNMENT
from cpuruntime.program import native
from cpuruntime.streams.memory import holding_the_gil


class Evaluation:
    """Formulas to which no number is added any more. Thread-safe.

    Args:
        symbols: how many extents there are.
        operations: int64[...][3], and
        terms: int64[...][2], as `native.FORMULAS` has them.
    """

    def __init__(self, symbols: int, operations: np.ndarray, terms: np.ndarray) -> None:
        self.symbols, self.operations, self.terms = symbols, operations, terms
        self._lock = threading.Lock()
        first = 1 + symbols
        values = np.zeros(first + len(operations), np.int64)
        block = np.zeros(1, native.FORMULAS)
        block["operations"] = operations.ctypes.data
        block["end"] = operations.ctypes.data + operations.nbytes
        block["terms"], block["first"], block["alignment"] = terms.ctypes.data, 8 * first, ALIGNMENT
        self._memory = block, values
        self._addresses = block.ctypes.data, values.ctypes.data
        self._evaluate = holding_the_gil(native.evaluate)
        self._values = values.data

    def at(self, extents: Sequence[int]) -> bytes | None:
        """The registers, int64, where the symbols are `extents`; None where a guard or a bound does not hold.

        OutOfMemoryError for numbers beyond 53 bits.
        """
        if min(extents, default=SMALLEST_EXTENT) < SMALLEST_EXTENT:
            return None
        with self._lock:
            values = self._values
            values[0] = 1
            for index, extent in enumerate(extents, start=1):
                values[index] = extent
            self._evaluate(*self._addresses, 0)
            if values[0] == native.OVERFLOWN:
                raise OutOfMemoryError("the sizes of the inputs are too large: those of values overflow 53 bits.")
            return values.tobytes() if values[0] == native.DONE else None
