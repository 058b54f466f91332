"""Layouts: what the dimensions of a tensor mean."""

from __future__ import annotations

import re

from cpuruntime.errors import InvalidArgumentError, WrongTypeError, printable
from cpuruntime.graph import PartialShape

_LONG = {"BATCH": "N", "CHANNELS": "C", "DEPTH": "D", "HEIGHT": "H", "WIDTH": "W"}
_SCALAR = "**SCALAR**"
_NAME = re.compile("[A-Z0-9_]+|[?]|[.]{3}")


class Layout:
    """Names of dimensions: "NCHW", "[N,C,H,W]" for names of any length, "N...C" for any number between, "N?HW".

    `Layout()` and `Layout("...")` say nothing. Upper and lower case are the same; "[batch,height]" is "[N,H]".
    Immutable; equal to the text of an equal layout. Raises InvalidArgumentError for another text.
    """

    __slots__ = ("_names",)

    def __init__(self, layout_str: str = "...") -> None:
        if not isinstance(layout_str, str):
            raise WrongTypeError(f"{layout_str!r:.60} is no layout: give a str such as 'NCHW'.")
        self._names = _parsed(layout_str) if layout_str else ("...",)

    @staticmethod
    def scalar() -> Layout:
        """That of a tensor without dimensions."""
        layout = Layout()
        layout._names = ()
        return layout

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return self._names == ("...",)

    def has_name(self, dimension_name: str) -> bool:
        """Whether a dimension has this name."""
        return _short(dimension_name) in self._names

    def get_index_by_name(self, dimension_name: str) -> int:
        """Where the dimension of this name is; behind "..." it is counted from the end, from -1.

        Raises InvalidArgumentError where there is none.
        """
        name = _short(dimension_name)
        if name not in self._names:
            raise InvalidArgumentError(f"No dimension of layout {self} is called '{printable(dimension_name)}'.")
        index = self._names.index(name)
        return index - len(self._names) if "..." in self._names[:index] else index

    def check_fits(self, shape: PartialShape, name: str) -> None:
        """Raise InvalidArgumentError where a tensor of this shape, called `name`, cannot have this layout."""
        if shape.rank.is_dynamic or self.empty:
            return
        least = len(self._names) - ("..." in self._names)
        rank = shape.rank.get_length()
        if rank < least or (rank > least and "..." not in self._names):
            raise InvalidArgumentError(
                f"Layout {self} has {least} dimensions; '{printable(name)}' has {rank}, with shape {shape}."
            )

    @property
    def rank(self) -> int | None:
        """The number of dimensions; None where "..." leaves it open."""
        return None if "..." in self._names else len(self._names)

    def names(self, rank: int, name: str) -> list[str]:
        """What the dimensions of a tensor of this rank, called `name`, are called, "?" where nothing is said.

        Raises InvalidArgumentError where it cannot have this layout.
        """
        self.check_fits(PartialShape([-1] * rank), name)
        if "..." not in self._names:
            return list(self._names)
        index = self._names.index("...")
        return [*self._names[:index], *"?" * (rank + 1 - len(self._names)), *self._names[index + 1 :]]

    def to_string(self) -> str:
        """Such as "[N,C,H,W]"."""
        return str(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            other = Layout(other)
        return self._names == other._names if isinstance(other, Layout) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"[{','.join(self._names)}]" if self._names else _SCALAR

    def __repr__(self) -> str:
        return f"<Layout: {self}>"


def _short(name: str) -> str:
    if not isinstance(name, str):
        raise WrongTypeError(f"{name!r:.60} is no name of a dimension: give a str such as 'N'.")
    return _LONG.get(name.upper(), name.upper())


def _parsed(text: str) -> tuple[str, ...]:
    if text == _SCALAR:
        return ()
    upper = text.upper()
    if upper.startswith("[") and upper.endswith("]"):
        parts = [_short(part.strip()) for part in upper[1:-1].split(",")]
    else:
        parts = re.findall(r"[.]{3}|.", upper, re.DOTALL)
    named = [part for part in parts if part != "?"]
    if not all(map(_NAME.fullmatch, parts)) or len(set(named)) < len(named):
        raise InvalidArgumentError(
            f"Layout name is invalid ('{printable(text)}'): it has letters, digits, ? and one ..., each name once, as "
            "NCHW, N...C or [N,C,H,W]."
        )
    return tuple(parts)
