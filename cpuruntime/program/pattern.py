"""Patterns of shapes: which extents of a model's inputs are open, and which of them are alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from cpuruntime.graph import LARGEST_EXTENT, Extent, Scope, Value

_SYMBOL = -1 << 64  # a row has the symbol with number n as _SYMBOL - n, below all numbers


class Pattern:
    """Which extents of a model's inputs are symbols, and which numbers in inputs whose contents are known.

    Open extents that are alike share a symbol, which is a guess that later shapes confirm or not; a number in contents
    shares one with extents only. One below 2 is a plain number.
    """

    def __init__(
        self, values: Sequence[Value], shapes: Sequence[Sequence[int]], contents: Sequence[Sequence[int]] = ()
    ) -> None:
        self.extents: list[int] = []
        self._shapes = len(shapes)
        declared = [value.shape or (None,) * len(shape) for value, shape in zip(values, shapes, strict=True)]
        self._rows = [self._row(known, shape, self.extents) for known, shape in zip(declared, shapes)]
        alike = list(self.extents)
        self._rows += [self._row([None] * len(row), row, alike) for row in contents]

    def _row(self, known: Sequence[int | None], numbers: Sequence[int], alike: list[int]) -> tuple[int, ...]:
        """Numbers with symbols in place of open ones, those of `extents` for numbers that are `alike`."""
        row = []
        for one, number in zip(known, numbers):
            if one is None and 2 <= number <= LARGEST_EXTENT:
                symbol = alike.index(number) if number in alike else len(self.extents)
                if symbol == len(self.extents):
                    self.extents.append(number)
                number = _SYMBOL - symbol
            row.append(number)
        return tuple(row)

    def facts(self) -> list[Any]:
        """What `restored` makes the pattern from again, also when it has been through JSON."""
        return [self.extents, self._shapes, self._rows]

    @classmethod
    def restored(cls, facts: Sequence[Any]) -> Pattern:
        """The pattern with these `facts`."""
        found = cls([], [])
        found.extents, found._shapes = facts[:2]
        found._rows = [*map(tuple, facts[2])]
        return found

    def sizes(self) -> tuple[Scope, list[tuple[Extent, ...]], list[tuple[Extent, ...]]]:
        """A scope for the symbols, and the shapes and the contents with sizes in place of them."""
        scope = Scope(self.extents)
        sizes = scope.sizes()
        rows = [tuple(each if each > _SYMBOL else sizes[_SYMBOL - each] for each in row) for row in self._rows]
        scope.volume = sum(map(prod, rows[: self._shapes]))
        return scope, rows[: self._shapes], rows[self._shapes :]

    def match(self, shapes: Sequence[Sequence[int]], contents: Sequence[Sequence[int]] = ()) -> list[int] | None:
        """The extents of the symbols for other shapes and contents; None where these follow another pattern."""
        found = [0] * len(self.extents)
        for pattern, row in zip(self._rows, [*shapes, *contents]):
            if len(pattern) != len(row):
                return None
            for expected, number in zip(pattern, row):
                if expected > _SYMBOL:
                    if expected != number:
                        return None
                elif found[_SYMBOL - expected]:
                    if found[_SYMBOL - expected] != number:
                        return None
                elif 2 <= number <= LARGEST_EXTENT:
                    found[_SYMBOL - expected] = number
                else:
                    return None
        return found
