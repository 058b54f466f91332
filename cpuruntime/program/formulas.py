"""Formulas: numbers that depend on the extents of a model's inputs, computed for a shape in one native call."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.errors import OutOfMemoryError
from cpuruntime.graph import SMALLEST_EXTENT, Extent, Relation, Scope, Size, Terms
from cpuruntime.host.memory import ALIGNMENT
from cpuruntime.program import native
from cpuruntime.program.native import BELOW, DIVIDE, MULTIPLY, PLACE, SUM
from cpuruntime.streams.memory import holding_the_gil

CONDITIONS = {
    Relation.EQUAL: native.EQUAL,
    Relation.DIFFERENT: native.DIFFERENT,
    Relation.POSITIVE: native.POSITIVE,
    Relation.NOT_NEGATIVE: native.NOT_NEGATIVE,
}


class Formulas:
    """Numbers of a scope and all that its guards demand, to be computed for other shapes.

    A number has a register; `row`, `below`, `sum` and `places` add numbers until `finish`, then guards are known, too.
    From then on `at` is thread-safe.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._first = 1 + scope.symbols
        self._operations: list[tuple[int, int, int]] = []
        self._terms: list[tuple[int, int]] = []
        self._rows: dict[Any, int] = {}
        self._lock = threading.Lock()

    def row(self, number: Extent) -> int:
        """The register of a number."""
        return self._polynomial(number.terms if isinstance(number, Size) else {(): int(number)} if number else {})

    def below(self, number: Extent, limit: int) -> int:
        """The register of whether a number is below a limit, 1 or 0."""
        return self._add(BELOW, 8 * self.row(number), limit)

    def sum(self, one: int, other: int) -> int:
        """The register of the sum of two others."""
        return self._add(SUM, *self._stored([(1, 8 * one), (1, 8 * other)]))

    def places(self, slots: Sequence[Sequence[Extent]]) -> list[int]:
        """The registers of where slots of memory begin, one behind the other, and of where the last one ends.

        Each has room for the largest of its sizes, in bytes; they begin at multiples of ALIGNMENT.
        """
        sizes = [[(1, 8 * self.row(size)) for size in slot] for slot in slots]
        found = [self._add(SUM, 0, 0)]
        found += [self._add(PLACE, *self._stored(terms)) for terms in sizes]
        return found

    def _add(self, kind: int, a: int, b: int) -> int:
        """The register of an operation's result."""
        self._operations.append((kind, a, b))
        return self._first + len(self._operations) - 1

    def _stored(self, terms: Sequence[tuple[int, int]]) -> tuple[int, int]:
        first = len(self._terms)
        self._terms += terms
        return first, len(self._terms)

    def _polynomial(self, terms: Terms) -> int:
        key = frozenset(terms.items())
        if key not in self._rows:
            factors = [(coefficient, 8 * self._product(atoms)) for atoms, coefficient in terms.items()]
            is_product = len(factors) == 1 and factors[0][0] == 1
            self._rows[key] = factors[0][1] // 8 if is_product else self._add(SUM, *self._stored(factors))
        return self._rows[key]

    def _product(self, atoms: tuple[int, ...]) -> int:
        if not atoms:
            return 0
        if atoms not in self._rows:
            *rest, last = atoms
            if rest:
                self._rows[atoms] = self._add(MULTIPLY, 8 * self._product(tuple(rest)), 8 * self._product((last,)))
            elif last < self._scope.symbols:
                self._rows[atoms] = 1 + last
            else:
                quotient = map(self._polynomial, self._scope.quotients[last - self._scope.symbols])
                self._rows[atoms] = self._add(DIVIDE, *(8 * row for row in quotient))
        return self._rows[atoms]

    def finish(self) -> None:
        """Close the scope; the guards there are become conditions."""
        self._scope.is_open = False
        for (_, relation), terms in self._scope.guards.items():
            self._add(CONDITIONS[relation], 8 * self._polynomial(terms), 0)
        operations, terms = np.array(self._operations, np.int64), np.array(self._terms, np.int64)
        values = np.zeros(self._first + len(self._operations), np.int64)
        block = np.zeros(1, native.FORMULAS)
        block["operations"] = operations.ctypes.data
        block["end"] = operations.ctypes.data + operations.nbytes
        block["terms"], block["first"], block["alignment"] = terms.ctypes.data, 8 * self._first, ALIGNMENT
        self._memory = block, values, operations, terms
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
