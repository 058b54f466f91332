"""Dimensions: one extent of a shape, known or not, as OpenVINO writes it."""

from __future__ import annotations

import operator
from typing import Any

from cpuruntime.errors import InvalidArgumentError, WrongTypeError

_TEXT = str
_DIMENSION_RULE = (
    "a dimension is an int >= 0, -1 or '?' (unknown), (low, high), or a string such as '1..8', '1..', '..8'."
)


class Symbol:
    """A name that dimensions may share; each is another. It says nothing to the runtime."""

    __slots__ = ()


class Dimension:
    """One extent: known (`Dimension(5)`), unknown (`Dimension()` or `Dimension(-1)`), or bounded (`Dimension(1, 8)`).

    An upper bound of -1 means none, a lower bound of -1 is 0; `Dimension("")` is 0. Immutable, but for its symbol, and
    hashable; a known dimension equals its int, an unknown one -1. Raises InvalidArgumentError when the bounds are
    wrong, WrongTypeError for what is no dimension.
    """

    __slots__ = ("_high", "_low", "_symbol")

    def __init__(
        self,
        dimension: Any = -1,
        max_dimension: int | None = None,
        *,
        min_dimension: int | None = None,
        str: str | None = None,
    ) -> None:
        if str is not None or min_dimension is not None:
            dimension = str if min_dimension is None else min_dimension
        if max_dimension is not None:
            self._low, self._high = _lower(dimension, dimension), _index(max_dimension, max_dimension)
        elif isinstance(dimension, Dimension):
            self._low, self._high = dimension._low, dimension._high
        elif isinstance(dimension, _TEXT):
            self._low, self._high = _parse_dimension(dimension)
        elif isinstance(dimension, (tuple, list)):
            if len(dimension) != 2:
                raise WrongTypeError(
                    "Two elements are expected in tuple(lower, upper) for dynamic dimension, but "
                    f"{len(dimension)} elements were given."
                )
            if not all(hasattr(bound, "__index__") for bound in dimension):
                raise WrongTypeError(
                    f"Incorrect pair of types ({type(dimension[0])}, {type(dimension[1])}) for dynamic dimension, ints "
                    "are expected."
                )
            self._low, self._high = _lower(dimension[0], dimension), _index(dimension[1], dimension)
        else:
            if not hasattr(dimension, "__index__"):
                raise WrongTypeError(
                    f"Incorrect type {type(dimension)} for dimension. Expected types are: int, str, "
                    "openvino.Dimension, list/tuple with lower and upper values for dynamic dimension."
                )
            length = _index(dimension, dimension)
            self._low, self._high = (0, -1) if length == -1 else (length, length)
        if self._low < 0 or self._high < -1 or -1 < self._high < self._low:
            given = dimension if max_dimension is None else (dimension, max_dimension)
            raise InvalidArgumentError(f"{given!r} is no dimension: {_DIMENSION_RULE}")

    @staticmethod
    def dynamic() -> Dimension:
        """An unknown dimension."""
        return Dimension()

    @property
    def is_static(self) -> bool:
        """Whether the length is known."""
        return self._low == self._high

    @property
    def is_dynamic(self) -> bool:
        """Whether the length is not known."""
        return self._low != self._high

    def get_length(self) -> int:
        """The length; InvalidArgumentError when it is not known."""
        if self.is_dynamic:
            raise InvalidArgumentError(f"Dimension {self} has no single length; see min_length and max_length.")
        return self._low

    def get_min_length(self) -> int:
        """The least length."""
        return self._low

    def get_max_length(self) -> int:
        """The greatest length; -1 when there is no bound."""
        return self._high

    min_length, max_length = property(get_min_length), property(get_max_length)

    def set_symbol(self, symbol: Symbol) -> None:
        """Mark the dimension with a symbol, which takes no part in comparisons."""
        self._symbol = symbol

    def has_symbol(self) -> bool:
        """Whether it is marked with a symbol."""
        return hasattr(self, "_symbol")

    def get_symbol(self) -> Symbol | None:
        """The symbol; None where it has none."""
        return getattr(self, "_symbol", None)

    def contains(self, length: int) -> bool:
        """Whether `length` lies within the bounds."""
        return length >= self._low and (self._high == -1 or length <= self._high)

    def compatible(self, dim: Any) -> bool:
        """Whether some length satisfies both."""
        other = Dimension(dim)
        return (self._high == -1 or other._low <= self._high) and (other._high == -1 or self._low <= other._high)

    def relaxes(self, dim: Any) -> bool:
        """Whether every length of `dim` is one of this dimension's."""
        other = Dimension(dim)
        return self._low <= other._low and (self._high == -1 or -1 < other._high <= self._high)

    def refines(self, dim: Any) -> bool:
        """Whether every length of this dimension is one of `dim`'s."""
        return Dimension(dim).relaxes(self)

    def same_scheme(self, dim: Any) -> bool:
        """Whether both are unknown or both have the same length."""
        other = Dimension(dim)
        return (self.is_dynamic and other.is_dynamic) or self == other

    def to_string(self) -> str:
        """Such as "5", "?", "1..8", "1.." or "..8"."""
        return str(self)

    __int__ = __index__ = __len__ = get_length

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dimension):
            return (self._low, self._high) == (other._low, other._high)
        if isinstance(other, int):
            return self._low == other if self.is_static else other == -1 and (self._low, self._high) == (0, -1)
        return NotImplemented

    def __hash__(self) -> int:
        if self.is_static:
            return hash(self._low)
        return hash((self._low, self._high)) if self._low or self._high != -1 else hash(-1)

    def __str__(self) -> str:
        if self.is_static:
            return str(self._low)
        if self._high == -1:
            return f"{self._low}.." if self._low else "?"
        return f"{self._low}..{self._high}" if self._low else f"..{self._high}"

    def __repr__(self) -> str:
        return f"<Dimension: {self}>"


def _index(value: Any, whole: Any) -> int:
    try:
        return operator.index(value)
    except (TypeError, InvalidArgumentError):
        raise WrongTypeError(f"{whole!r} is no dimension: {_DIMENSION_RULE}") from None


def _lower(value: Any, whole: Any) -> int:
    """A lower bound, for which -1 means 0."""
    bound = _index(value, whole)
    return 0 if bound == -1 else bound


def _parse_dimension(text: str) -> tuple[int, int]:
    stripped = text.strip()
    if stripped in ("?", "-1", ".."):
        return 0, -1
    low, dots, high = stripped.partition("..")
    low, high = low.strip().removeprefix("-1" if dots else ""), high.strip()
    for name, part in (("min bound" if dots else "dimension", low), ("max bound", high)):
        if part and not (part.isascii() and part.isdigit()):
            raise InvalidArgumentError(f'Cannot parse {name}: "{part}"; {_DIMENSION_RULE}')
    if not dots:
        return int(low or "0"), int(low or "0")
    return int(low or "0"), int(high or "-1")
