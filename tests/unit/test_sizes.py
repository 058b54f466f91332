"""Sizes: arithmetic as with whole numbers, and guards."""

from __future__ import annotations

import pytest

from cpuruntime.graph import LARGEST_EXTENT, Scope, Size, typical


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
