"""Formulas: numbers that depend on the extents of a model's inputs, as operations on registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Extent, Relation, Scope, Size, Terms
from cpuruntime.program import native
from cpuruntime.program.evaluation import Evaluation
from cpuruntime.program.native import BELOW, DIVIDE, MULTIPLY, PLACE, SUM
from cpuruntime.program.plan.step import KernelChoice

CONDITIONS = {
    Relation.EQUAL: native.EQUAL,
    Relation.DIFFERENT: native.DIFFERENT,
    Relation.POSITIVE: native.POSITIVE,
    Relation.NOT_NEGATIVE: native.NOT_NEGATIVE,
}


class Formulas:
    """Numbers of a scope and all that its guards demand, to be computed for other shapes.

    A number has a register; `row`, `below`, `sum`, `places` and `choice` add numbers until `finish`, then guards are
    known, too. `kernels` are the terms of which the coefficient is where a kernel's machine code lies.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._first = 1 + scope.symbols
        self._operations: list[tuple[int, int, int]] = []
        self._terms: list[tuple[int, int]] = []
        self._rows: dict[Any, int] = {}
        self.kernels: list[tuple[int, Kernel]] = []

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

    def choice(self, choice: KernelChoice) -> int:
        """The register of where the machine code lies of the kernel that is chosen; compiles or loads all kernels."""
        rows = [self._address(kernel) for kernel in choice.kernels]
        terms = [(1, 8 * rows[0])]
        for reached, before, after in zip(choice.reached, rows, rows[1:]):
            change = self._add(SUM, *self._stored([(1, 8 * after), (-1, 8 * before)]))
            terms.append((1, 8 * self._add(MULTIPLY, 8 * self.row(reached), 8 * change)))
        return self._add(SUM, *self._stored(terms))

    def _address(self, kernel: Kernel) -> int:
        if kernel not in self._rows:
            self.kernels.append((len(self._terms), kernel))
            self._rows[kernel] = self._add(SUM, *self._stored([(kernel.address, 0)]))
        return self._rows[kernel]

    def finish(self) -> Evaluation:
        """Close the scope; the guards there are become conditions."""
        self._scope.is_open = False
        for (_, relation), terms in self._scope.guards.items():
            self._add(CONDITIONS[relation], 8 * self._polynomial(terms), 0)
        operations, rows = np.array(self._operations, np.int64), np.array(self._terms, np.int64)
        return Evaluation(self._scope.symbols, operations.reshape(-1, 3), rows.reshape(-1, 2))
