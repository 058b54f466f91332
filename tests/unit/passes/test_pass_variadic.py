"""Operators of many inputs become chains of two."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

NAME = "variadic"


@pytest.mark.parametrize(
    ("op_type", "chain"),
    [
        ("Sum", ["Add", "Add", "Add"]),
        ("Max", ["Max", "Max", "Max"]),
        ("Min", ["Min", "Min", "Min"]),
        ("Mean", ["Add", "Add", "Add", "Div"]),
    ],
)
def test_chains_of_two(op_type: str, chain: list[str]) -> None:
    b = Builder()
    inputs = [b.input(2, 3), b.input(3), b.input(4, 1, 1), b.input(1)]
    after = optimise(b.graph(b(op_type, *inputs)), NAME)
    assert kinds(after) == chain
    assert [node.outputs[0].shape for node in after.nodes[:2]] == [(2, 3), (4, 2, 3)]
    assert all(node.origins == ["n0"] for node in after.nodes)
    assert len({node.name for node in after.nodes}) == len(chain)
    assert after.outputs[0].name == f"n0_{op_type}"


@pytest.mark.parametrize(("op_type", "kind"), [("Sum", "Add"), ("Max", "Max")])
def test_two(op_type: str, kind: str) -> None:
    b = Builder()
    assert kinds(optimise(b.graph(b(op_type, b.input(2, 3), b.input(2, 3))), NAME)) == [kind]


@pytest.mark.parametrize("op_type", ["Sum", "Mean"])
def test_one_is_nothing(op_type: str) -> None:
    b = Builder()
    after = optimise(b.graph(b("Relu", b(op_type, b.input(2, 3)))), NAME)
    assert kinds(after) == ["Relu"]


def test_the_same_value_twice() -> None:
    b = Builder()
    x = b.input(2, 3)
    assert kinds(optimise(b.graph(b("Sum", x, x, x)), NAME)) == ["Add", "Add"]


def test_other_types() -> None:
    b = Builder()
    x = [b.input(2, 3, dtype=np.float64) for _ in range(3)]
    assert kinds(optimise(b.graph(b("Mean", *x)), NAME)) == ["Add", "Add", "Div"]
