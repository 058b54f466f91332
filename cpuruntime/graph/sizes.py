"""Sizes: whole numbers that depend on the extents of a model's inputs, so that one plan serves many shapes.

A plan for inputs of certain shapes is made once with a `Size` in place of each extent that may change. Arithmetic on
sizes gives sizes. Wherever the planner needs an answer, a comparison or a plain number, the answer holds for the shapes
at hand, and the scope of the sizes keeps it as a guard. For other shapes that satisfy all guards the same plan is
right: every number in it is the value of its polynomial. The method is symbolic execution with guards, as PyTorch's
`SymInt` does it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

Terms = Mapping[tuple[int, ...], int]
"""A polynomial: the coefficient of each product of atoms, given as their sorted numbers; () is the constant."""

SMALLEST_EXTENT, LARGEST_EXTENT = 2, 2**31 - 1
"""Bounds of an extent that is a symbol."""


class Relation(enum.IntEnum):
    """What a guard says of the value of a polynomial."""

    EQUAL = 0
    DIFFERENT = 1
    POSITIVE = 2
    NOT_NEGATIVE = 3


EQUAL, DIFFERENT, POSITIVE, NOT_NEGATIVE = Relation


class Scope:
    """The sizes of one plan: symbols, each an extent of at least 2, and quotients of polynomials in them.

    Attributes:
        values: of all atoms, at the shapes at hand.
        guards: (polynomial, relation), in the order in which they were met.
        volume: the elements of all inputs; 0 where it does not matter.
        is_open: whether answers are kept as guards; a plan is finished when its scope is closed.
    """

    def __init__(self, extents: Sequence[int]) -> None:
        self.symbols = len(extents)
        self.values: list[int] = list(extents)
        self.quotients: list[tuple[Terms, Terms]] = []
        self.guards: dict[tuple[frozenset[tuple[tuple[int, ...], int]], Relation], Terms] = {}
        self.volume: Extent = 0
        self.is_open = True
        self._numbers: dict[Any, int] = {}
        self._bounds: list[tuple[int, int] | None] = [(SMALLEST_EXTENT, LARGEST_EXTENT)] * len(extents)

    def sizes(self) -> list[Size]:
        """The symbols."""
        return [Size(self, {(index,): 1}) for index in range(self.symbols)]

    def choose(self, extents: Sequence[int]) -> None:
        """Makes these the shapes at hand, which reports are about; the scope is closed."""
        values = list(extents)
        for numerator, denominator in self.quotients:
            values.append(_evaluate(numerator, values) // _evaluate(denominator, values))
        self.values = values

    def evaluate(self, terms: Terms) -> int:
        """The value of a polynomial at the shapes at hand."""
        return _evaluate(terms, self.values)

    def quotient(self, numerator: Terms, denominator: Terms) -> Size:
        """The atom numerator // denominator, where the denominator is known to be positive."""
        key = _key(numerator), _key(denominator)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.quotients.append((numerator, denominator))
            self.values.append(self.evaluate(numerator) // self.evaluate(denominator))
            bounds, divisors = self._range(numerator), self._range(denominator)
            known = bounds is not None and divisors is not None and bounds[0] >= 0
            self._bounds.append((bounds[0] // divisors[1], bounds[1] // max(divisors[0], 1)) if known else None)
        return Size(self, {(number,): 1})

    def _range(self, terms: Terms) -> tuple[int, int] | None:
        """Bounds of a polynomial for all extents; None where they are not known."""
        low = high = 0
        for atoms, coefficient in terms.items():
            least = most = 1
            for atom in atoms:
                bounds = self._bounds[atom]
                if bounds is None:
                    return None
                least, most = least * bounds[0], most * bounds[1]
            ends = coefficient * least, coefficient * most
            low, high = low + min(ends), high + max(ends)
        return low, high

    def holds(self, terms: Terms, relation: Relation) -> bool:
        """Whether the relation holds for the value of a polynomial; the answer becomes a guard unless it is certain."""
        constant = _constant(terms)
        if constant is not None:
            return _RELATIONS[relation](constant)
        certain = self.certain(terms, relation)
        if certain is not None:
            return certain
        answer = _RELATIONS[relation](self.evaluate(terms))
        if self.is_open:
            if not answer:
                relation, negated = _OPPOSITES[relation]
                terms = {atoms: -c for atoms, c in terms.items()} if negated else terms
            self.guards.setdefault((_key(terms), relation), terms)
        return answer

    def certain(self, terms: Terms, relation: Relation) -> bool | None:
        """Whether the relation holds for all extents; None where that is not known."""
        bounds = self._range(terms)
        if bounds is None:
            return None
        low, high = bounds
        if relation in (EQUAL, DIFFERENT):
            return relation == DIFFERENT if low > 0 or high < 0 else None
        least = 1 if relation == POSITIVE else 0
        return True if low >= least else False if high < least else None


def _evaluate(terms: Terms, values: Sequence[int]) -> int:
    return sum(coefficient * prod(values[atom] for atom in atoms) for atoms, coefficient in terms.items())


def _key(terms: Terms) -> frozenset[tuple[tuple[int, ...], int]]:
    return frozenset(terms.items())


def _constant(terms: Terms) -> int | None:
    if not terms:
        return 0
    return terms[()] if len(terms) == 1 and () in terms else None


_RELATIONS: Sequence[Callable[[int], bool]] = (lambda n: n == 0, lambda n: n != 0, lambda n: n > 0, lambda n: n >= 0)
# The opposite relation, and whether it is that of the negated polynomial.
_OPPOSITES = ((DIFFERENT, False), (EQUAL, False), (NOT_NEGATIVE, True), (POSITIVE, True))


class Size:
    """One such number; behaves as an `int` and mixes with them.

    Taking the plain number (`int`, an index, a key of a dict, a float) guards that it stays what it is. Without a guard
    `typical` gives it, for what affects speed only. Immutable; not thread-safe while its scope is open.
    """

    __slots__ = ("scope", "terms")

    def __init__(self, scope: Scope, terms: Terms) -> None:
        self.scope = scope
        self.terms = terms

    @property
    def value(self) -> int:
        """At the shapes at hand."""
        return self.scope.evaluate(self.terms)

    def _combined(self, other: Any, factor: int) -> Any:
        right = _terms_of(other)
        if right is None:
            return int(self) + factor * other if isinstance(other, float) else NotImplemented
        terms = dict(self.terms)
        for atoms, coefficient in right.items():
            total = terms.get(atoms, 0) + factor * coefficient
            if total:
                terms[atoms] = total
            else:
                terms.pop(atoms, None)
        return _simplest(self.scope, terms)

    def __add__(self, other: Any) -> Any:
        return self._combined(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._combined(other, -1)

    def __rsub__(self, other: Any) -> Any:
        return (-self)._combined(other, 1)

    def __neg__(self) -> Size:
        return Size(self.scope, {atoms: -coefficient for atoms, coefficient in self.terms.items()})

    def __pos__(self) -> Size:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __mul__(self, other: Any) -> Any:
        right = _terms_of(other)
        if right is None:
            return int(self) * other if isinstance(other, float) else NotImplemented
        terms: dict[tuple[int, ...], int] = {}
        for a, m in self.terms.items():
            for b, n in right.items():
                atoms = tuple(sorted(a + b)) if a and b else a or b
                total = terms.get(atoms, 0) + m * n
                if total:
                    terms[atoms] = total
                else:
                    terms.pop(atoms, None)
        return _simplest(self.scope, terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return _divide(self.scope, self.terms, _terms_of(other))

    def __rfloordiv__(self, other: Any) -> Any:
        return _divide(self.scope, _terms_of(other), self.terms)

    def __mod__(self, other: Any) -> Any:
        quotient = self // other
        return quotient if quotient is NotImplemented else self - quotient * other

    def __rmod__(self, other: Any) -> Any:
        quotient = other // self
        return quotient if quotient is NotImplemented else other - quotient * self

    def __divmod__(self, other: Any) -> Any:
        quotient = self // other
        return quotient, self - quotient * other

    def __pow__(self, exponent: int) -> Any:
        result: Any = 1
        for _ in range(exponent):
            result = result * self
        return result

    def _holds(self, other: Any, relation: Relation, swapped: bool = False) -> Any:
        if isinstance(other, float):
            return _RELATIONS[relation](other - int(self) if swapped else int(self) - other)
        difference = self._combined(other, -1)
        if difference is NotImplemented:
            return NotImplemented
        terms = _terms_of(-difference if swapped else difference)
        assert terms is not None
        return self.scope.holds(terms, relation)

    def __eq__(self, other: object) -> Any:
        return self._holds(other, EQUAL)

    def __ne__(self, other: object) -> Any:
        return self._holds(other, DIFFERENT)

    def __gt__(self, other: Any) -> Any:
        return self._holds(other, POSITIVE)

    def __ge__(self, other: Any) -> Any:
        return self._holds(other, NOT_NEGATIVE)

    def __lt__(self, other: Any) -> Any:
        return self._holds(other, POSITIVE, swapped=True)

    def __le__(self, other: Any) -> Any:
        return self._holds(other, NOT_NEGATIVE, swapped=True)

    def __bool__(self) -> bool:
        return self.scope.holds(self.terms, DIFFERENT)

    def __index__(self) -> int:
        value = self.value
        self._holds(value, EQUAL)
        return value

    __int__ = __index__

    def __float__(self) -> float:
        return float(int(self))

    def __hash__(self) -> int:
        return hash(int(self))

    def __and__(self, other: Any) -> int:
        return int(self) & int(other)

    def __or__(self, other: Any) -> int:
        return int(self) | int(other)

    def __rshift__(self, other: Any) -> int:
        return int(self) >> int(other)

    def __lshift__(self, other: Any) -> int:
        return int(self) << int(other)

    __rand__, __ror__ = __and__, __or__

    def __truediv__(self, other: Any) -> float:
        return int(self) / (int(other) if isinstance(other, Size) else other)

    def __rtruediv__(self, other: Any) -> float:
        return other / int(self)

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"<Size {self.value}>"

    def __format__(self, specification: str) -> str:
        return format(self.value, specification)


Extent = int | Size


def _simplest(scope: Scope, terms: Terms) -> Any:
    constant = _constant(terms)
    return Size(scope, terms) if constant is None else constant


def _terms_of(number: Any) -> Terms | None:
    """The polynomial of a size or whole number; None for other things."""
    if isinstance(number, Size):
        return number.terms
    if isinstance(number, (int, np.integer)):
        return {(): int(number)} if number else {}
    return None


def _divide(scope: Scope, numerator: Terms | None, denominator: Terms | None) -> Any:
    if numerator is None or denominator is None:
        return NotImplemented
    if not denominator:
        raise ZeroDivisionError("division of a size by zero")
    if not scope.holds(denominator, POSITIVE):
        negated = ({atoms: -c for atoms, c in terms.items()} for terms in (numerator, denominator))
        return _divide(scope, *negated)
    whole = _exact_quotient(numerator, denominator)
    if whole is not None:
        return _simplest(scope, whole)
    divisor = _constant(denominator)
    if divisor is None:
        return scope.quotient(numerator, denominator)
    if all(coefficient <= 0 for atoms, coefficient in numerator.items() if atoms):
        # -a // b == -((a + b - 1) // b), a quotient that is not negative
        raised = {atoms: -coefficient for atoms, coefficient in numerator.items()}
        raised[()] = raised.get((), 0) + divisor - 1
        return -_divide(scope, {atoms: c for atoms, c in raised.items() if c}, denominator)
    # (divisor * a + b) // divisor == a + b // divisor
    taken = {atoms: c // divisor for atoms, c in numerator.items() if c % divisor == 0}
    rest = {atoms: c for atoms, c in numerator.items() if c % divisor}
    constant = _constant(rest)
    quotient = scope.quotient(rest, denominator) if constant is None else constant // divisor
    return quotient + _simplest(scope, taken)


def _exact_quotient(numerator: Terms, denominator: Terms) -> Terms | None:
    """The polynomial of which the product with the denominator is the numerator, by long division; None without one."""
    divisors, factor = max(denominator.items(), key=_order)
    rest, found = dict(numerator), {}
    while rest:
        atoms, coefficient = max(rest.items(), key=_order)
        left = list(atoms)
        for atom in divisors:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % factor:
            return None
        found[tuple(left)] = coefficient // factor
        for others, each in denominator.items():
            place = tuple(sorted((*left, *others)))
            rest[place] = rest.get(place, 0) - coefficient // factor * each
            if not rest[place]:
                del rest[place]
    return found


def _order(term: tuple[tuple[int, ...], int]) -> tuple[int, tuple[int, ...]]:
    """Terms by degree, then by their atoms: the leading term of a product is the product of the leading terms."""
    return len(term[0]), term[0][::-1]


def typical(number: Any) -> Any:
    """The number at the shapes at hand, without a guard: for choices that affect nothing but speed."""
    return number.value if isinstance(number, Size) else number


def alike(a: Any, b: Any) -> bool:
    """Whether two numbers are equal for all extents, as far as that is known; no guard follows."""
    return _terms_of(a) == _terms_of(b)


def at_least(number: Any, least: int) -> Any:
    """1 where a number from 0 to 2**52 is at least `least`, else 0; other shapes answer anew, so no guard follows."""
    if not isinstance(number, Size):
        return int(number >= least)
    certain = number.scope.certain((number - least).terms, NOT_NEGATIVE)
    return (number + (2**52 - least)) // 2**52 if certain is None else int(certain)
