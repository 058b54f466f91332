"""Shapes: known (Shape), and partly known (PartialShape), as OpenVINO writes them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

from cpuruntime.errors import InvalidArgumentError, WrongIndexError, WrongTypeError
from cpuruntime.graph.dimension import Dimension


def _split(text: str) -> list[str]:
    inside = text.strip()
    if inside.startswith("[") and inside.endswith("]"):
        inside = inside[1:-1]
    parts = inside.split(",") if inside.strip() else []
    if not all(map(str.strip, parts)):
        raise InvalidArgumentError(
            f'Cannot get vector of dimensions! "{text}" is incorrect: a dimension is missing between commas.'
        )
    return parts


class Shape(list[int]):
    """A known shape: a list of ints >= 0. Equal to a list or tuple of the same ints.

    `Shape([1, 3])`, `Shape("[1,3]")`, `Shape()`. Raises InvalidArgumentError when an extent is not an int >= 0.
    """

    def __init__(self, axis_lengths: Iterable[Any] | str = (), *, shape: str | None = None) -> None:
        axis_lengths = axis_lengths if shape is None else shape
        known = isinstance(axis_lengths, (str, PartialShape))
        items: Iterable[Any] = PartialShape(axis_lengths).to_shape() if known else axis_lengths
        try:
            lengths = [operator.index(length) for length in items]
        except TypeError:
            raise WrongTypeError(f"{axis_lengths!r} is no shape: it takes ints >= 0.") from None
        if any(length < 0 for length in lengths):
            raise WrongTypeError(f"{axis_lengths!r} is no shape: it takes ints >= 0.")
        super().__init__(lengths)

    def to_string(self) -> str:
        """Such as "[1,3]"."""
        return str(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Shape: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return Shape(super().__getitem__(index))
        return super().__getitem__(index)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (list, tuple)):
            return list.__eq__(self, list(other))
        if isinstance(other, PartialShape):
            return other == self
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "[" + ",".join(map(str, self)) + "]"

    def __repr__(self) -> str:
        return f"<Shape: {self}>"


class PartialShape:
    """A shape of which extents, or even the rank, may be unknown.

    From a list or tuple whose items are as `Dimension` takes them (`[1, 3, (224, 448), -1]`), a `Shape`, or a string
    ("[1,3,224..448,?]", "1,3,?", "[...]" for unknown rank). Raises InvalidArgumentError for anything else.
    """

    __slots__ = ("_dimensions",)

    def __init__(self, shape: Any = ()) -> None:
        self._dimensions: list[Dimension] | None
        if isinstance(shape, PartialShape):
            self._dimensions = None if shape._dimensions is None else list(shape._dimensions)
        elif isinstance(shape, str):
            parts = _split(shape)
            self._dimensions = None if [part.strip() for part in parts] == ["..."] else [Dimension(p) for p in parts]
        elif isinstance(shape, (list, tuple)):
            self._dimensions = [Dimension(item) for item in shape]
        else:
            raise WrongTypeError(f"{shape!r} is no shape: give a list, a tuple, a Shape or a string.")

    @staticmethod
    def dynamic(rank: Any = None) -> PartialShape:
        """The shape of unknown rank; with a rank, the shape of that many unknown dimensions."""
        shape = PartialShape()
        static = rank is not None and Dimension(rank).is_static
        shape._dimensions = [Dimension()] * int(rank) if static else None
        return shape

    @property
    def rank(self) -> Dimension:
        """The number of dimensions."""
        return Dimension() if self._dimensions is None else Dimension(len(self._dimensions))

    @property
    def is_static(self) -> bool:
        """Whether every dimension is known."""
        return self._dimensions is not None and all(d.is_static for d in self._dimensions)

    @property
    def is_dynamic(self) -> bool:
        """Whether the rank or a dimension is not known."""
        return not self.is_static

    @property
    def all_non_negative(self) -> bool:
        """Always true: no dimension here can be negative."""
        return True

    def to_shape(self) -> Shape:
        """The shape; InvalidArgumentError when it is not wholly known."""
        if self._dimensions is None or not self.is_static:
            raise InvalidArgumentError(f"the shape {self} is dynamic: it has no single Shape.")
        return Shape([d.min_length for d in self._dimensions])

    get_shape = to_shape

    def get_min_shape(self) -> Shape:
        """The least lengths; empty for an unknown rank."""
        return Shape([d.min_length for d in self._dimensions or ()])

    def get_max_shape(self) -> Shape:
        """The greatest lengths, 2**63 - 1 where there is no bound; empty for an unknown rank."""
        return Shape([2**63 - 1 if d.max_length == -1 else d.max_length for d in self._dimensions or ()])

    def __copy__(self) -> PartialShape:
        return PartialShape(self)

    def get_dimension(self, index: int) -> Dimension:
        """The dimension at `index`."""
        return self[index]

    def compatible(self, shape: Any) -> bool:
        """Whether some shape satisfies both."""
        return self._pairwise(shape, Dimension.compatible, True)

    def contains(self, extents: Sequence[int]) -> bool:
        """Whether these lengths satisfy the shape."""
        mine = self._dimensions
        if mine is None:
            return True
        for dimension, extent in zip(mine, extents):
            if extent < dimension._low or -1 < dimension._high < extent:
                return False
        return len(mine) == len(extents)

    def relaxes(self, shape: Any) -> bool:
        """Whether every shape that satisfies `shape` satisfies this."""
        other = PartialShape(shape)
        return self._dimensions is None or (
            other._dimensions is not None and self._pairwise(other, Dimension.relaxes, False)
        )

    def refines(self, shape: Any) -> bool:
        """Whether every shape that satisfies this satisfies `shape`."""
        return PartialShape(shape).relaxes(self)

    def same_scheme(self, shape: Any) -> bool:
        """Whether both have the same rank, the same known dimensions and the same places unknown."""
        other = PartialShape(shape)
        if self._dimensions is None or other._dimensions is None:
            return self._dimensions is other._dimensions
        return self._pairwise(other, Dimension.same_scheme, False)

    def _pairwise(self, shape: Any, test: Any, unknown_rank: bool) -> bool:
        mine, others = self._dimensions, PartialShape(shape)._dimensions
        if mine is None or others is None:
            return unknown_rank
        return len(mine) == len(others) and all(test(a, b) for a, b in zip(mine, others))

    def to_string(self) -> str:
        """Such as "[1,3,224..448,?]"."""
        return str(self)

    def _known(self) -> list[Dimension]:
        if self._dimensions is None:
            raise InvalidArgumentError("the shape [...] has an unknown rank: it has no dimensions to count or index.")
        return self._dimensions

    def __len__(self) -> int:
        return len(self._known())

    def __iter__(self) -> Iterator[Dimension]:
        return iter(list(self._known()))

    @overload
    def __getitem__(self, index: int) -> Dimension: ...

    @overload
    def __getitem__(self, index: slice) -> PartialShape: ...

    def __getitem__(self, index: int | slice) -> Dimension | PartialShape:
        try:
            found = self._known()[index]
        except IndexError:
            raise WrongIndexError(f"the shape {self} has no dimension {index}.") from None
        return PartialShape(found) if isinstance(found, list) else found

    def __setitem__(self, index: int, value: Any) -> None:
        self._known()[index] = Dimension(value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PartialShape):
            return self._dimensions == other._dimensions
        if isinstance(other, (list, tuple)):
            if self._dimensions is None:
                raise WrongTypeError(f"Cannot compare dynamic shape with {type(other)}: its rank is unknown.")
            return self._dimensions == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        if self._dimensions is None:
            return "[...]"
        return "[" + ",".join(map(str, self._dimensions)) + "]"

    def __repr__(self) -> str:
        return f"<PartialShape: {self}>"
