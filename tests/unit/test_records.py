"""Classes of values: they do what frozen dataclasses do."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from cpuruntime.records import entity, record


@record
class Point:
    """A point."""

    x: int
    y: float = 2.5
    label: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"at {self.x}"


@dataclass(frozen=True)
class Expected:
    """The same as a dataclass."""

    x: int
    y: float = 2.5
    label: str = field(default="", compare=False)


@record
class Named(Point):
    """A point with a name."""

    name: str = "none"


@entity
class Counter:
    """What may change."""

    name: str
    count: int = 0


@record
class Empty:
    """No fields."""


@pytest.mark.parametrize("arguments", [((1,), {}), ((1, 2.0), {"label": "a"}), ((), {"y": 3.0, "x": 1})])
def test_fields_are_given_in_their_order_or_by_name(arguments: Any) -> None:
    positional, named = arguments
    found, wanted = Point(*positional, **named), Expected(*positional, **named)
    assert vars(found) == vars(wanted)
    assert repr(found) == repr(wanted).replace("Expected", "Point")
    assert str(found) == "at 1"


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2.0, "", 4), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_wrong_arguments_are_errors(arguments: Any) -> None:
    positional, named = arguments
    for kind in (Point, Expected):
        with pytest.raises(TypeError):
            kind(*positional, **named)


def test_equal_values_are_equal() -> None:
    assert Point(1) == Point(1, 2.5, "other")
    assert hash(Point(1)) == hash(Point(1, 2.5, "other"))
    assert Point(1) != Point(2)
    assert Point(1) != Expected(1)
    assert Point(1) != Named(1)
    assert Named(1) != Point(1)
    assert repr(Empty()) == "Empty()"


def test_values_never_change() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match="'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="'x'"):
        del point.x
    assert point == Point(1)


def test_functions_for_dataclasses_take_them() -> None:
    named = replace(Named(1), name="here")
    assert named == Named(1, name="here")
    assert [each.name for each in fields(named)] == ["x", "y", "label", "name"]
    assert pickle.loads(pickle.dumps(named)) == named


def test_an_entity_may_change_and_equals_itself_alone() -> None:
    one, other = Counter("a"), Counter(name="a")
    assert one != other
    assert len({one, other, one}) == 2
    one.count += 2
    assert repr(replace(one, name="b")) == "Counter(name='b', count=2)"
    assert other.count == 0
