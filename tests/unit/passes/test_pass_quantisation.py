"""Quantised operators become arithmetic on floats; what is quantised and brought back never becomes integers."""

from __future__ import annotations

import numpy as np
from support.graphs import Builder, kinds, optimise

NAME = "quantisation"


def test_pairs_stay_in_floats() -> None:
    b = Builder(19)
    scale, zero = b.constant(0.1), b.constant(3, np.uint8)
    q = b("QuantizeLinear", b.input(2, 8), scale, zero)
    graph = optimise(b.graph(b("DequantizeLinear", q, scale, zero)), NAME)
    assert kinds(graph) == ["Div", "Round", "Add", "Clip", "Sub", "Mul"]


def test_integers_from_outside_and_for_outside_are_cast() -> None:
    b = Builder(19)
    x = b.input(2, 8, dtype=np.int8)
    y = b("DequantizeLinear", x, b.constant(0.1), b.constant(0, np.int8))
    graph = optimise(b.graph(b("QuantizeLinear", y, b.constant(0.2), b.constant(0, np.int8))), NAME)
    assert kinds(graph) == ["Cast", "Mul", "Div", "Round", "Clip", "Cast"]


def test_integer_products_for_floats_become_products_of_floats() -> None:
    b = Builder(19)
    x, w = b.input(4, 8, dtype=np.uint8), b.constant(b.random.integers(-9, 9, (8, 6)), np.int8)
    zero = b.constant(5, np.uint8)
    graph = optimise(b.graph(b("Cast", b("MatMulInteger", x, w, zero), to=1)), NAME)
    assert kinds(graph) == ["Cast", "Sub", "MatMul"]


def test_integer_products_for_integers_stay() -> None:
    b = Builder(19)
    x, w = b.input(4, 8, dtype=np.uint8), b.constant(b.random.integers(-9, 9, (8, 6)), np.int8)
    assert kinds(optimise(b.graph(b("MatMulInteger", x, w)), NAME)) == ["MatMulInteger"]
