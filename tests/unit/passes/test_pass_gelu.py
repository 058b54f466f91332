"""Gelu in its spellings by erf, tanh and sigmoid."""

from __future__ import annotations

from math import pi, sqrt

import pytest
from support.graphs import Builder, attributes_of, kinds, optimise

from cpuruntime.graph import Value

NAME = "gelu"


def gate(b: Builder, x: Value, approximate: bool, cube: str = "power") -> Value:
    """erf(x / sqrt(2)) or tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""
    if not approximate:
        inner = b("Div", x, b.constant(sqrt(2))) if cube == "power" else b("Mul", b.constant(sqrt(0.5)), x)
        return b("Erf", inner)
    factor = b.constant(0.044715)
    if cube == "power":
        total = b("Add", x, b("Mul", factor, b("Pow", x, b.constant(3.0))))
    elif cube == "products":
        total = b("Add", b("Mul", b("Mul", b("Mul", x, x), x), factor), x)
    else:
        square = b("Mul", b("Mul", factor, x), x)
        total = b("Mul", x, b("Add", b.constant(1.0), square))
    return b("Tanh", b("Mul", total, b.constant(sqrt(2 / pi))))


def whole(b: Builder, x: Value, inner: Value, order: str) -> Value:
    one, half = b.constant(1.0), b.constant(0.5)
    if order == "half of x":
        return b("Mul", b("Mul", x, half), b("Add", inner, one))
    if order == "half at last":
        return b("Mul", b("Mul", b("Add", one, inner), x), half)
    if order == "half of the sum":
        return b("Mul", x, b("Mul", half, b("Add", inner, one)))
    if order == "divided":
        return b("Div", b("Mul", x, b("Add", inner, one)), b.constant(2.0))
    return b("Mul", b("Add", b("Mul", inner, half), half), x)


ORDERS = ["half of x", "half at last", "half of the sum", "divided", "half inside"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cube", ["power", "other"])
def test_erf(order: str, cube: str) -> None:
    b = Builder()
    x = b.input(2, 8)
    after = optimise(b.graph(whole(b, x, gate(b, x, False, cube), order)), NAME)
    assert kinds(after) == ["Gelu"]
    assert attributes_of(after, "Gelu", "approximate") == ["none"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cube", ["power", "products", "factored"])
def test_tanh(order: str, cube: str) -> None:
    b = Builder()
    x = b.input(2, 8)
    after = optimise(b.graph(whole(b, x, gate(b, x, True, cube), order)), NAME)
    assert kinds(after) == ["Gelu"]
    assert attributes_of(after, "Gelu", "approximate") == ["tanh"]


def test_sigmoid() -> None:
    b = Builder()
    x = b.input(2, 8)
    after = optimise(b.graph(b("Mul", x, b("Sigmoid", b("Mul", x, b.constant(1.702))))), NAME)
    assert kinds(after) == ["Swish"]
    assert attributes_of(after, "Swish", "alpha") == [pytest.approx(1.702)]


@pytest.mark.parametrize("approximate", [False, True])
def test_becomes_the_activation_of_a_product(approximate: bool) -> None:
    b = Builder()
    x = b("Add", b("MatMul", b.input(2, 3, 8), b.weights(8, 5)), b.weights(5))
    after = optimise(b.graph(whole(b, x, gate(b, x, approximate), "half of x")))
    assert kinds(after) == ["+FullyConnected>GeluTanh" if approximate else "+FullyConnected>Gelu"]


@pytest.mark.parametrize("flaw", ["factor", "argument", "other x", "summand"])
def test_what_only_looks_alike(flaw: str) -> None:
    b = Builder()
    x = b.input(2, 8)
    inner = b("Erf", b("Mul", x, b.constant(0.7 if flaw == "argument" else sqrt(0.5))))
    total = b("Add", inner, b.constant(0.9 if flaw == "summand" else 1.0))
    factor = b.constant(0.6 if flaw == "factor" else 0.5)
    after = optimise(b.graph(b("Mul", b("Mul", b.input(2, 8) if flaw == "other x" else x, factor), total)), NAME)
    assert "Gelu" not in kinds(after)
