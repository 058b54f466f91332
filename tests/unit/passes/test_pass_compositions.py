"""Compositions are written out in simpler operators, and only where those have kernels."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime.graph import Graph

NAME = "compositions"


def written(graph: Graph) -> list[str]:
    return kinds(optimise(graph, NAME))


def test_norms_divide() -> None:
    b = Builder()
    x = b.input(3, 4)
    assert written(b.graph(b("LpNormalization", x, p=2))) == ["ReduceL2", "Max", "Div"]
    b = Builder()
    x = b.input(2, 3, 4, 5)
    names = ["ReduceMean", "Sub", "Mul", "ReduceMean", "Sqrt", "Add", "Div"]
    assert written(b.graph(b("MeanVarianceNormalization", x))) == names


def test_hardmax_is_a_place() -> None:
    b = Builder()
    assert written(b.graph(b("Hardmax", b.input(3, 4)))) == ["ArgMax", "OneHot"]


def test_powers_get_one_type() -> None:
    b = Builder()
    x, y = b.input(3, 4), b.input(4, dtype=np.int64)
    assert written(b.graph(b("Pow", b("Pow", x, b.integers(2)), y))) == ["Pow", "Cast", "Pow"]
    b = Builder()
    assert written(b.graph(b("Pow", b.input(3), b.constant(2)))) == ["Pow"]


def test_clip_of_integers_or_by_computed_bounds_is_max_and_min() -> None:
    b = Builder()
    x, y, low = b.input(3, dtype=np.int64), b.input(3), b.input()
    graph = b.graph(b("Clip", x, b.constant(0, np.int64), b.constant(1, np.int64)), b("Clip", y, low))
    assert written(graph) == ["Max", "Min", "Max"]
    b = Builder()
    assert written(b.graph(b("Clip", b.input(3), b.constant(0), b.constant(1)))) == ["Clip"]


@pytest.mark.parametrize(("axes", "expected"), [([0, 2], ["ReduceSum"]), ([0, 2, 4], ["ReduceSum"] * 3)])
def test_reductions_have_two_groups_of_axes(axes: list[int], expected: list[str]) -> None:
    b = Builder()
    assert written(b.graph(b("ReduceSum", b.input(2, 3, 4, 5, 6), b.integers(*axes)))) == expected


def test_dynamic_shapes_are_left_alone() -> None:
    b = Builder()
    assert written(b.graph(b("LpNormalization", b.input(None, 4)))) == ["LpNormalization"]
