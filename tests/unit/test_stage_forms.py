"""Waiting graphs share their plans if they have the same form, and only then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.program.stages.form import SMALL, form_of

LARGE = np.zeros(SMALL + 1, np.uint8)


def graph(name: str = "x", shape: Any = (None, 4), constant: Any = 1.5, body: str = "Exp", **attributes: Any) -> Graph:
    x, y, z = Value(name, Type.f32, shape), Value("y", Type.f32), Value("z", Type.f32)
    inner = Value("inner", Type.f32)
    one = Graph("", [inner], [Value("made", Type.f32)], [])
    one.nodes = [Node(body, "", [inner], one.outputs)]
    first = Node("Mul", "first", [x, Value.of("factor", np.asarray(constant))], [y], attributes)
    return Graph("", [x], [z], [first, Node("If", "second", [y], [z], {"body": one})], {"": 18})


def test_names_of_inputs_and_small_constants_of_the_same_content_make_no_difference() -> None:
    assert form_of(graph(), [0]) == form_of(graph("other"), {0})
    assert form_of(graph(constant=LARGE), []) == form_of(graph(constant=LARGE), [])
    assert form_of(graph(weights=np.ones(3), axes=[1, 2]), []) == form_of(graph(weights=np.ones(3), axes=[1, 2]), [])


@pytest.mark.parametrize(
    "other",
    [
        {"shape": (None, 5)},
        {"shape": None},
        {"constant": 2.5},
        {"constant": np.float32(1.5)},
        {"constant": [1.5]},
        {"body": "Log"},
        {"axis": 1},
        {"axes": [1]},
        {"alpha": 0.0},
        {"table": np.ones(3)},
    ],
)
def test_what_plans_depend_on_makes_a_difference(other: dict[str, Any]) -> None:
    assert form_of(graph(**other), []) != form_of(graph(), [])


def test_values_that_compare_equal_are_not_always_the_same() -> None:
    forms = [form_of(graph(alpha=alpha), []) for alpha in (0.0, -0.0, 0, False)]
    assert len(set(forms)) == 4


def test_inputs_that_vary_make_a_difference() -> None:
    assert form_of(graph(), [0]) != form_of(graph(), [])


def test_large_constants_are_the_same_only_as_one_array() -> None:
    assert form_of(graph(constant=LARGE), []) != form_of(graph(constant=LARGE.copy()), [])


def test_the_order_in_which_values_are_read_makes_a_difference() -> None:
    def subtraction(turned: bool) -> Graph:
        x, y, z = (Value(name, Type.f32) for name in "xyz")
        return Graph("", [x, y], [z], [Node("Sub", "", [y, x] if turned else [x, y], [z])])

    assert form_of(subtraction(False), []) != form_of(subtraction(True), [])
