"""Activation functions spelled in simpler operators are recognised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, optimise

from cpuruntime.graph import Value

NAME = "activations"
Make = Callable[[Builder, Value], Value]


def gate(b: Builder, x: Value, swapped: bool = False) -> Value:
    """Relu6(x + 3)."""
    three = b.constant(3.0)
    return b("Clip", b("Add", three, x) if swapped else b("Add", x, three), b.constant(0.0), b.constant(6.0))


def sixth(b: Builder) -> Value:
    return b.constant(1 / 6)


HARD_SWISH: dict[str, Make] = {
    "x * gate / 6": lambda b, x: b("Div", b("Mul", x, gate(b, x)), b.constant(6.0)),
    "gate / 6 * x": lambda b, x: b("Mul", b("Div", gate(b, x, True), b.constant([6.0])), x),
    "x / 6 * gate": lambda b, x: b("Mul", b("Div", x, b.constant(6.0)), gate(b, x)),
    "x * (gate * 1/6)": lambda b, x: b("Mul", x, b("Mul", gate(b, x), sixth(b))),
    "x * 1/6 * gate": lambda b, x: b("Mul", gate(b, x, True), b("Mul", sixth(b), x)),
    "x * HardSigmoid": lambda b, x: b("Mul", x, b("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    "Max and Min": lambda b, x: b(
        "Div",
        b("Mul", x, b("Min", b("Max", b("Add", x, b.constant(3.0)), b.constant(0.0)), b.constant(6.0))),
        b.constant(6.0),
    ),
    "Relu6 as Relu and Min": lambda b, x: b(
        "Mul", b("Mul", x, b("Min", b("Relu", b("Add", x, b.constant(3.0))), b.constant(6.0))), sixth(b)
    ),
}


@pytest.mark.parametrize("make", HARD_SWISH.values(), ids=HARD_SWISH)
def test_hard_swish(make: Make) -> None:
    b = Builder()
    after = optimise(b.graph(make(b, b("Neg", b.input(2, 30)))), NAME)
    assert kinds(after) == ["Neg", "HardSwish"]
    assert set(after.nodes[1].origins) >= {"n1", "n2"}


def test_hard_sigmoid() -> None:
    b = Builder()
    x = b.input(2, 30)
    after = optimise(b.graph(b("Div", gate(b, x), b.constant(6.0))), NAME)
    assert kinds(after) == ["HardSigmoid"]
    assert attributes_of(after, "HardSigmoid", "alpha", "beta") == [1 / 6, 0.5]


@pytest.mark.parametrize("left", [False, True])
def test_silu(left: bool) -> None:
    b = Builder()
    x = b.input(2, 3)
    s = b("Sigmoid", x)
    assert kinds(optimise(b.graph(b("Mul", s, x) if left else b("Mul", x, s)), NAME)) == ["+Silu"]


def test_mish() -> None:
    b = Builder(opset=18)
    x = b.input(2, 3)
    assert kinds(optimise(b.graph(b("Mul", x, b("Tanh", b("Softplus", x)))), NAME)) == ["Mish"]


def test_swish() -> None:
    b = Builder(opset=24)
    x = b.input(2, 3)
    after = optimise(b.graph(b("Swish", x), b("Swish", x, alpha=1.5)), NAME)
    assert kinds(after) == ["+Silu", "Swish"]


def test_prelu_with_one_slope() -> None:
    b = Builder()
    x = b.input(2, 3)
    after = optimise(b.graph(b("PRelu", x, b.constant([[0.25]])), b("PRelu", x, b.weights(3))), NAME)
    assert kinds(after) == ["LeakyRelu", "PRelu"]
    assert attributes_of(after, "LeakyRelu", "alpha") == [0.25]


def test_one_of_each_at_once() -> None:
    """A block of MobileNetV3: squeeze and excite with HardSigmoid, then HardSwish."""
    b = Builder()
    x = b.input(1, 4, 5, 5)
    scale = b("HardSigmoid", b("GlobalAveragePool", x), alpha=1 / 6, beta=0.5)
    y = b("Mul", x, scale)
    after = optimise(b.graph(b("Mul", y, b("Div", gate(b, y), b.constant(6.0)))), NAME)
    assert kinds(after) == ["GlobalAveragePool", "HardSigmoid", "Mul", "HardSwish"]


OTHERS: dict[str, Make] = {
    "other factor": lambda b, x: b("Mul", b("Neg", x), b("Sigmoid", x)),
    "square": lambda b, x: b("Mul", x, x),
    "divided": lambda b, x: b("Div", x, b("Sigmoid", x)),
    "other slope": lambda b, x: b("Mul", x, b("HardSigmoid", x)),
    "other offset": lambda b, x: b("Mul", x, b("HardSigmoid", x, alpha=1 / 6, beta=0.25)),
    "gate without 1/6": lambda b, x: b("Mul", x, gate(b, x)),
    "gate alone": lambda b, x: b("Mul", gate(b, x), b.constant(0.5)),
    "other limits": lambda b, x: b(
        "Div", b("Mul", x, b("Clip", b("Add", x, b.constant(3.0)), b.constant(0.0), b.constant(7.0))), b.constant(6.0)
    ),
    "other shift": lambda b, x: b(
        "Div", b("Mul", x, b("Clip", b("Add", x, b.constant(2.0)), b.constant(0.0), b.constant(6.0))), b.constant(6.0)
    ),
    "three factors": lambda b, x: b("Mul", b("Mul", x, b("Exp", x)), b("Sigmoid", x)),
    "number": lambda b, x: b("Mul", b("Mul", x, b.constant(2.0)), b("Sigmoid", x)),
    "divided by 0": lambda b, x: b("Mul", b("Div", x, b.constant(0.0)), b("Sigmoid", x)),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_products_stay(make: Make) -> None:
    b = Builder()
    graph = b.graph(make(b, b("Neg", b.input(2, 3))))
    assert kinds(optimise(graph, NAME)) == kinds(graph)


def test_a_product_with_more_than_the_activation() -> None:
    b = Builder()
    x = b.input(2, 3)
    y = b("Mul", x, b("Sigmoid", x))
    assert kinds(optimise(b.graph(b("Mul", y, b.constant([[[2.0]]]))), NAME)) == ["+Silu", "Mul"]


def test_what_others_read_stays() -> None:
    b = Builder()
    x = b.input(2, 3)
    s = b("Sigmoid", x)
    assert kinds(optimise(b.graph(b("Mul", x, s), b("Neg", s)), NAME)) == ["Sigmoid", "Mul", "Neg"]


def test_other_types_stay() -> None:
    b = Builder()
    x = b.input(2, 3, dtype=np.float64)
    assert kinds(optimise(b.graph(b("Mul", x, b("Sigmoid", x))), NAME)) == ["Sigmoid", "Mul"]
