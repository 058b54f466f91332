"""Sequences of integers and of tensors, by OpenVINO's names."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any

from cpuruntime.api.tensor import Tensor
from cpuruntime.errors import WrongTypeError


class _Integers:
    """A sequence of integers of fixed length. Equal to a list or tuple of the same integers."""

    __slots__ = ("_items",)
    _least: int | None = 0

    def __init__(self, items: Iterable[Any] = ()) -> None:
        try:
            self._items = [self._checked(item) for item in items]
        except TypeError:
            raise WrongTypeError(f"{items!r:.60} is no {type(self).__name__}: give a list of ints.") from None

    def _checked(self, item: Any) -> int:
        number = operator.index(item)
        if self._least is not None and number < self._least:
            raise WrongTypeError(f"{number} in a {type(self).__name__}: it takes ints >= {self._least}.")
        return number

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def __getitem__(self, index: int) -> int:
        return self._items[operator.index(index)]

    def __setitem__(self, index: int, value: int) -> None:
        self._items[operator.index(index)] = self._checked(value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (list, tuple, _Integers)):
            return self._items == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return ", ".join(map(str, self._items))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: ({self})>"


class Strides(_Integers):
    """Steps along the dimensions."""

    __slots__ = ()


class Coordinate(_Integers):
    """A position in a tensor, as `Tensor(other, begin, end)` takes it."""

    __slots__ = ()


class CoordinateDiff(_Integers):
    """A difference of positions, which may be negative."""

    __slots__ = ()
    _least = None


class AxisVector(_Integers):
    """Dimensions, in an order."""

    __slots__ = ()


class AxisSet(set[int]):
    """Dimensions, each once. Raises WrongTypeError for what is no set or list of ints >= 0."""

    def __init__(self, axes: Iterable[Any] = ()) -> None:
        super().__init__(AxisVector(axes))


class TensorVector(MutableSequence[Tensor]):
    """A list of tensors. Raises WrongTypeError for an item that is none."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[Tensor] = ()) -> None:
        self._items: list[Tensor] = []
        self.extend(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return TensorVector(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = TensorVector(value) if isinstance(index, slice) else _tensor(value)

    def __delitem__(self, index: Any) -> None:
        del self._items[index]

    def insert(self, index: int, value: Tensor) -> None:
        """Put a tensor before the one at `index`."""
        self._items.insert(index, _tensor(value))

    def __repr__(self) -> str:
        return f"TensorVector({self._items!r})"


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise WrongTypeError(f"A TensorVector holds tensors, not {type(value).__name__}.")
    return value
