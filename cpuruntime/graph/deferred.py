"""Large constants that are read, and computed from others, when they are packed, so that memory holds few at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from cpuruntime.graph.graph import Graph

Part = Callable[[int, int], np.ndarray]
Origin = tuple[Any, ...]
"""How an array comes from bytes of the model's file: a word for `remade`, and what it takes."""


class Deferred(NDArrayOperatorsMixin):
    """Stands for an array of this shape and dtype that `make` gives, anew in each call and writable.

    Where an array is needed it becomes one, which lives as long as somebody refers to it. Thread-safe as `make` is.

    Attributes:
        rows: gives those from a first to before a last one; None where that costs as much as the whole array.
        columns: the same for the second axis of two.
        origin: how the array comes from the model's file; None where that is not known.
        is_read_late: whether it comes from a file that is open for a while only.
    """

    columns: Part | None = None
    origin: Origin | None = None
    is_read_late = True

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype, make: Callable[[], np.ndarray], rows: Part | None = None
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.itemsize, self.size = dtype.itemsize, prod(shape)
        self.nbytes = self.size * dtype.itemsize
        self.rows = rows
        self._make = make
        self._made: weakref.ref[np.ndarray] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = None if self._made is None else self._made()
        if array is None:
            array = self._make()
            array.flags.writeable = False
            self._made = weakref.ref(array)
        return array if dtype is None else array.astype(dtype, copy=bool(copy))

    __hash__ = object.__hash__  # operators, `==` among them, give arrays

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **how: Any) -> Any:
        plain = (np.asarray(each) if isinstance(each, Deferred) else each for each in inputs)
        return getattr(ufunc, method)(*plain, **how)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # NumPy asks for several before it calls `__array__`
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def T(self) -> Deferred:  # NumPy's name
        """The transpose, deferred, too."""
        turned = Deferred(self.shape[::-1], self.dtype, lambda: self._make().T)
        rows = self.rows
        if rows is not None and self.ndim == 2:
            turned.columns = lambda first, last: rows(first, last).T
        turned.origin = self.origin and ("turned", self.origin)
        return turned

    def __mul__(self, factor: np.ndarray) -> Deferred | np.ndarray:
        """The product with factors that leave shape and dtype as they are is deferred, too."""
        same = np.result_type(self.dtype, factor) == self.dtype
        if not same or np.broadcast_shapes(self.shape, np.shape(factor)) != self.shape:
            return np.asarray(self) * factor

        def make() -> np.ndarray:
            array = self._make()
            return np.multiply(array, factor, out=array)

        scaled = Deferred(self.shape, self.dtype, make)
        if np.size(factor) <= max(self.shape, default=1):  # an origin is kept for long
            scaled.origin = self.origin and ("scaled", self.origin, factor)
        return scaled


def settle(graph: Graph) -> None:
    """Read the deferred constants of a graph that is kept; compressed ones stay as they are."""
    for value in graph.constants():
        if isinstance(value.constant, Deferred) and value.constant.is_read_late:
            value.constant = np.asarray(value.constant)


def joined(arrays: list[np.ndarray | Deferred], axis: int) -> np.ndarray | Deferred:
    """`np.concatenate`, deferred where an array is."""
    if not any(isinstance(array, Deferred) for array in arrays):
        return np.concatenate(arrays, axis)
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    whole = Deferred(tuple(shape), arrays[0].dtype, lambda: np.concatenate(list(map(np.asarray, arrays)), axis))
    origins = [array.origin if isinstance(array, Deferred) else None for array in arrays]
    whole.origin = ("joined", origins, axis) if all(origins) else None
    return whole


def remade(origin: Origin, read: Callable[[int, tuple[int, ...], np.dtype], Deferred]) -> Any:
    """The array of an origin; `read` gives an array by its first byte, its shape and its type."""
    kind, first, *rest = origin
    if kind == "turned":
        return remade(first, read).T
    if kind == "scaled":
        return remade(first, read) * rest[0]
    if kind == "joined":
        return joined([remade(each, read) for each in first], rest[0])
    return read(first, *rest)
