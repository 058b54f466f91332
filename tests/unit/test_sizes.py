"""Sizes: arithmetic as with whole numbers, guards, and their formulas at other shapes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cpuruntime.graph import LARGEST_EXTENT, Formulas, Scope, Size, typical


def program(a: Any, b: Any, chosen: random.Random) -> list[Any]:
    """Arithmetic with decisions, as a planner does it."""
    found = [a, b, 3, 8]
    for _ in range(14):
        x, y = chosen.choice(found), chosen.choice(found)
        operation = chosen.randrange(10)
        if operation == 0:
            result = x + y
        elif operation == 1:
            result = x * y
        elif operation == 2:
            result = x - y
        elif operation == 3:
            result = -(-x // 8)
        elif operation == 4:
            result = x // y if y != 0 else 1
        elif operation == 5:
            result = x % y if y != 0 else 2
        elif operation == 6:
            result = max(x, y)
        elif operation == 7:
            result = x if x == y else y
        elif operation == 8:
            result = int(x) if chosen.random() < 0.1 else -x
        else:
            result = abs(x - 5) if x else y
        if abs(result) < 10**7:
            found.append(result)
    return found


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_formulas_give_what_the_program_computes(first: int) -> None:
    served = 0
    for seed in range(first, first + 500):
        chosen = random.Random(seed)
        a, b = chosen.randint(2, 40), chosen.randint(2, 40)
        scope = Scope([a, b])
        found = program(*scope.sizes(), random.Random(seed))
        assert [typical(number) for number in found] == program(a, b, random.Random(seed))
        formulas = Formulas(scope)
        rows = [formulas.row(number) for number in found]
        for c, d in ((a, b), (a + 8, b + 8), (2 * a, 2 * b), (chosen.randint(2, 40), chosen.randint(2, 40))):
            values = formulas.at([c, d])
            if values is not None:
                served += 1
                assert values[rows].tolist() == program(c, d, random.Random(seed)), (seed, c, d)
    assert served > 700  # the shapes at hand are always served


def sizes(*extents: int) -> list[Size]:
    return Scope(extents).sizes()


def guards(size: Size) -> int:
    return len(size.scope.guards)


def test_certain_answers_take_no_guard() -> None:
    a, b = sizes(5, 7)
    assert a != 1
    assert a > 0
    assert a * b >= 4
    assert a + b != 0
    assert a * 4 == 2 * a + a + a
    assert (a * b * 4) // (b * 4) == a
    assert a <= LARGEST_EXTENT
    assert -(-a // 8) >= 0
    assert guards(a) == 0


PINS: tuple[Any, ...] = (
    int, hash, float, lambda n: range(100)[n], lambda n: list(range(n)), lambda n: np.array([n], np.int64),
    lambda n: {n: 1}, lambda n: n / 2, lambda n: n + 0.5, lambda n: n * 0.5, lambda n: n > 0.5, lambda n: n | 1,
    lambda n: n << 1,
)  # fmt: skip


@pytest.mark.parametrize("pin", PINS)
def test_a_plain_number_is_guarded(pin: Any) -> None:
    a, _ = sizes(5, 7)
    pin(a)
    formulas = Formulas(a.scope)
    assert formulas.at([5, 9]) is not None
    assert formulas.at([6, 7]) is None


def test_a_comparison_is_guarded() -> None:
    a, b = sizes(5, 7)
    assert a < b
    formulas = Formulas(a.scope)
    assert formulas.at([8, 9]) is not None
    assert formulas.at([9, 9]) is None


def test_typical_numbers_are_not_guarded() -> None:
    a, b = sizes(5, 7)
    assert typical(a * b + 1) == 36
    assert typical(3) == 3
    assert str(a) == f"{a}" == "5"
    assert guards(a) == 0


def test_a_closed_scope_has_no_new_guards() -> None:
    a, b = sizes(5, 7)
    a.scope.is_open = False
    assert a < b
    assert guards(a) == 0


def test_other_things_are_no_numbers() -> None:
    a, _ = sizes(5, 7)
    assert a is not None
    assert a != "5"
    assert None not in (a, a)
    with pytest.raises(TypeError):
        a + "5"
    with pytest.raises(ZeroDivisionError):
        a // 0


def test_divisions_by_what_may_be_zero_are_guarded() -> None:
    a, b = sizes(7, 5)
    quotient = 100 // (a - b)
    assert quotient == 50
    formulas = Formulas(a.scope)
    row = formulas.row(quotient)
    assert formulas.at([7, 5])[row] == 50
    assert formulas.at([5, 5]) is None
    assert formulas.at([5, 7]) is None


def test_values_that_are_too_large_are_errors() -> None:
    a, b = sizes(5, 7)
    formulas = Formulas(a.scope)
    formulas.row(a * a * b)
    assert formulas.at([1000, 1000])[0] == 10**9
    with pytest.raises(OverflowError):
        formulas.at([LARGEST_EXTENT, 10**6])
