"""Memory for what the iterations of a loop collect."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Node, Value
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.operators import control_flow

FIRST_BYTES = 16 << 20
"""Memory at first, at most, unless one iteration takes more; it doubles when it is full. It costs when it is used."""


class Rows:
    """What iterations of `node`, at most `most`, give for the scan output `value` of its body, in memory that grows."""

    def __init__(self, node: Node, value: Value, most: int) -> None:
        self._node = node
        self._value = value
        self._rows: np.ndarray | None = None
        self._most = most
        self._count = 0
        self._target: np.ndarray | None = None

    def expect(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """All rows have this shape and type: InvalidArgumentError when one before has not."""
        if self._rows is None:
            first = min(self._most, FIRST_BYTES // max(prod(shape) * dtype.itemsize, 1))
            self._rows = aligned_zeros((max(first, 1), *shape), dtype)
        elif shape != self._rows.shape[1:] or dtype != self._rows.dtype:
            raise InvalidArgumentError(
                f"{self._node.where}: iterations give scan output '{printable(self._value.name)}' as "
                f"{self._rows.dtype}{list(self._rows.shape[1:])} and {dtype}{list(shape)}; they must be the same."
            )

    def target(self) -> np.ndarray | None:
        """Where the next iteration may write; None before the first."""
        if self._rows is None:
            return None
        self._grow()
        self._target = self._rows[self._count, ...]
        return self._target

    def room(self) -> int:
        """How many of the next iterations there is memory for, one at least."""
        self._grow()
        assert self._rows is not None
        return len(self._rows) - self._count

    def address(self, ahead: int = 0) -> int:
        """Where the next iteration has to write, or the one so many `ahead`."""
        assert self._rows is not None
        return self._rows.ctypes.data + (self._count + ahead) * self._rows.strides[0]

    def add(self, count: int) -> None:
        """So many iterations have written."""
        self._count += count

    def _grow(self) -> None:
        rows = self._rows
        assert rows is not None
        if self._count == len(rows):
            self._rows = aligned_zeros((2 * len(rows), *rows.shape[1:]), rows.dtype)
            self._rows[: self._count] = rows

    def take(self, result: Any) -> None:
        """The iteration gave `result`."""
        if not isinstance(result, np.ndarray):
            name = printable(self._value.name)
            raise InvalidArgumentError(f"{self._node.where}: scan output '{name}' is no tensor.")
        self.expect(result.shape, result.dtype)
        if self._target is None or result is not self._target:
            self.target()[...] = result  # type: ignore[index]
        self._target = None
        self._count += 1

    def all(self, axis: int = 0, backwards: bool = False) -> np.ndarray:
        """The rows of all iterations along an axis."""
        if self._rows is None or not self._count:
            return control_flow.stacked(self._node, [], self._value, axis % (1 + len(self._value.shape or ())))
        rows = self._rows[: self._count]
        rows = rows[::-1] if backwards else rows
        if axis == 0:
            return np.asarray(rows, order="C")
        return np.asarray(np.moveaxis(rows, 0, axis), order="C")
