"""Formulas: sizes and guards at other shapes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cpuruntime.errors import OutOfMemoryError
from cpuruntime.graph import LARGEST_EXTENT, Scope, Size, typical
from cpuruntime.program.evaluation import Evaluation
from cpuruntime.program.formulas import Formulas


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
        evaluation = formulas.finish()
        for c, d in ((a, b), (a + 8, b + 8), (2 * a, 2 * b), (chosen.randint(2, 40), chosen.randint(2, 40))):
            values = at(evaluation, [c, d], rows)
            if values is not None:
                served += 1
                assert values == program(c, d, random.Random(seed)), (seed, c, d)
    assert served > 700  # the shapes at hand are always served


def at(evaluation: Evaluation, extents: Sequence[int], rows: Sequence[int]) -> list[int] | None:
    """The numbers of rows."""
    found = evaluation.at(extents)
    return None if found is None else np.frombuffer(found, np.int64)[rows].tolist()


def sizes(*extents: int) -> list[Size]:
    return Scope(extents).sizes()


PINS: tuple[Any, ...] = (
    int, hash, float, lambda n: range(100)[n], lambda n: list(range(n)), lambda n: np.array([n], np.int64),
    lambda n: {n: 1}, lambda n: n / 2, lambda n: n + 0.5, lambda n: n * 0.5, lambda n: n > 0.5, lambda n: n | 1,
    lambda n: n << 1,
)  # fmt: skip


@pytest.mark.parametrize("pin", PINS)
def test_a_plain_number_is_guarded(pin: Any) -> None:
    a, _ = sizes(5, 7)
    pin(a)
    evaluation = Formulas(a.scope).finish()
    assert evaluation.at([5, 9]) is not None
    assert evaluation.at([6, 7]) is None


def test_a_comparison_is_guarded() -> None:
    a, b = sizes(5, 7)
    assert a < b
    evaluation = Formulas(a.scope).finish()
    assert evaluation.at([8, 9]) is not None
    assert evaluation.at([9, 9]) is None


def test_divisions_by_what_may_be_zero_are_guarded() -> None:
    a, b = sizes(7, 5)
    quotient = 100 // (a - b)
    assert quotient == 50
    formulas = Formulas(a.scope)
    row = formulas.row(quotient)
    evaluation = formulas.finish()
    assert at(evaluation, [7, 5], [row]) == [50]
    assert evaluation.at([5, 5]) is None
    assert evaluation.at([5, 7]) is None


def test_values_that_are_too_large_are_errors() -> None:
    a, b = sizes(5, 7)
    formulas = Formulas(a.scope)
    row = formulas.row(a * a * b)
    evaluation = formulas.finish()
    assert at(evaluation, [1000, 1000], [row]) == [10**9]
    with pytest.raises(OutOfMemoryError):
        evaluation.at([LARGEST_EXTENT, 10**6])


@pytest.mark.parametrize(
    "number", [lambda a: a * a - a * a * a, lambda a: (a * a * a * a) // 7, lambda a: -(a * a * a)]
)
def test_no_part_of_a_number_may_be_too_large(number: Any) -> None:
    (a,) = sizes(5)
    formulas = Formulas(a.scope)
    row = formulas.row(number(a))
    evaluation = formulas.finish()
    assert at(evaluation, [8000], [row]) == [number(8000)]
    with pytest.raises(OutOfMemoryError):
        evaluation.at([2**20])


def test_places_follow_each_other() -> None:
    a, b = sizes(5, 7)
    formulas = Formulas(a.scope)
    places = formulas.places([[a, 4 * b], [a * b], [0], [64]])
    evaluation = formulas.finish()
    assert at(evaluation, [5, 7], places) == [0, 64, 128, 128, 192]
    assert at(evaluation, [100, 17], places) == [0, 128, 1856, 1856, 1920]
    with pytest.raises(OutOfMemoryError):
        evaluation.at([2**26, 2**27])


def test_sums_and_limits() -> None:
    a, b = sizes(5, 7)
    formulas = Formulas(a.scope)
    rows = [formulas.sum(formulas.row(a * b), formulas.row(3)), formulas.below(a * b, 36), formulas.below(2, 2)]
    evaluation = formulas.finish()
    assert at(evaluation, [5, 7], rows) == [38, 1, 0]
    assert at(evaluation, [6, 6], rows) == [39, 0, 0]
