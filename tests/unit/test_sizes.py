"""Sizes: arithmetic as with whole numbers, and guards."""

from __future__ import annotations

import pytest

from cpuruntime.graph import LARGEST_EXTENT, Scope, Size, alike, at_least, typical


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


def test_typical_numbers_are_not_guarded() -> None:
    a, b = sizes(5, 7)
    assert typical(a * b + 1) == 36
    assert typical(3) == 3
    assert str(a) == f"{a}" == "5"
    assert guards(a) == 0


def test_what_is_alike_is_equal_for_all_extents() -> None:
    a, b = sizes(5, 5)
    assert alike(2 * a + b, a + b + a)
    assert alike(a - a, 0)
    assert not alike(a, b)
    assert not alike(a, 5)
    assert alike(3, 3)
    assert guards(a) == 0


def test_whether_a_number_is_at_least_another_is_answered_anew() -> None:
    a, b = sizes(5, 7)
    answers = [at_least(a * b, least) for least in (1, 20, 35, 36, 1000)]
    for extents in ((5, 7), (2, 10), (40, 30), (5, 4), (2, 2)):
        a.scope.choose(extents)
        product = extents[0] * extents[1]
        assert [typical(answer) for answer in answers] == [product >= least for least in (1, 20, 35, 36, 1000)]
    assert guards(a) == 0
    assert [at_least(a, 2), at_least(a, 0), at_least(7, 7), at_least(7, 8)] == [1, 1, 1, 0]
    assert isinstance(at_least(a, 3), Size)


def test_a_quotient_of_constants_is_a_number() -> None:
    a, _ = sizes(5, 7)
    assert alike((4 * a + 3) // 2, 2 * a + 1)


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
