"""Residual additions and activations end in the operator they apply to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, kinds, node_of, optimise

from cpuruntime.graph import Value


def conv(b: Builder, x: Value, channels: int = 3, **attributes: Any) -> Value:
    return b("Conv", x, b.weights(channels, x.shape[1] if x.shape else 3, 1, 1), **attributes)


ACTIVATIONS: dict[str, tuple[dict[str, float], list[float]]] = {
    "Relu": ({}, []),
    "LeakyRelu": ({"alpha": 0.3}, [0.3]),
    "Sigmoid": ({}, []),
    "HardSigmoid": ({"alpha": 0.3, "beta": 0.4}, [0.3, 0.4]),
    "HardSwish": ({}, []),
    "Tanh": ({}, []),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("maker", ["Conv", "FullyConnected", "ScaleShift", "Add"])
def test_activations(activation: str, maker: str) -> None:
    b = Builder(opset=14)
    x = b.input(2, 3) if maker == "FullyConnected" else b.input(2, 3, 4, 4)
    makers = {
        "Conv": lambda: conv(b, x),
        "FullyConnected": lambda: b("MatMul", x, b.weights(3, 3)),
        "ScaleShift": lambda: b.norm(x, 3),
        "Add": lambda: b("Add", x, b.input(3, 1, 1)),
    }
    attributes, arguments = ACTIVATIONS[activation]
    after = optimise(b.graph(b(activation, makers[maker](), **attributes)))
    assert kinds(after) == [f"+{maker}>{activation}"]
    assert after.nodes[0].attributes["activation_arguments"] == arguments
    assert after.nodes[0].origins == ["n0", "n1"]
    assert after.outputs[0].name == f"n1_{activation}"


@pytest.mark.parametrize(
    ("limits", "arguments"), [([0.0, 6.0], [0, 6]), ([None, 1.0], [-np.inf, 1]), ([-1.0], [-1, np.inf])]
)
def test_clip(limits: list[float | None], arguments: list[float]) -> None:
    b = Builder()
    y = b("Clip", conv(b, b.input(1, 3, 4, 4)), *[None if v is None else b.constant(v) for v in limits])
    after = optimise(b.graph(y))
    assert kinds(after) == ["+Conv>Clip"]
    assert after.nodes[0].attributes["activation_arguments"] == arguments


def test_clip_between_data_stays() -> None:
    b = Builder()
    y = b("Clip", conv(b, b.input(1, 3, 4, 4)), b.input())
    assert kinds(optimise(b.graph(y))) == ["+Conv", "Max"]


def test_primitives() -> None:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    y = b.norm(conv(b, x), 3)
    y = conv(b, b("Mul", y, b("Sigmoid", y)))
    y = b("Mul", y, b("Clip", b("Add", y, b.constant(3.0)), b.constant(0.0), b.constant(6.0)))
    assert kinds(optimise(b.graph(b("Div", y, b.constant(6.0))))) == ["+Conv>Silu", "+Conv>HardSwish"]


def test_one_activation_each() -> None:
    b = Builder()
    y = b("Sigmoid", b("Tanh", conv(b, b.input(1, 3, 4, 4))))
    assert kinds(optimise(b.graph(y))) == ["+Conv>Tanh", "Sigmoid"]


def test_what_others_read_stays() -> None:
    b = Builder()
    y = conv(b, b.input(1, 3, 4, 4))
    assert kinds(optimise(b.graph(b("Relu", y), b("Exp", y)))) == ["+Conv", "Relu", "Exp"]


def test_what_is_an_output_stays() -> None:
    b = Builder()
    y = conv(b, b.input(1, 3, 4, 4))
    assert kinds(optimise(b.graph(y, b("Relu", y)))) == ["+Conv", "Relu"]


def test_a_residual_block() -> None:
    b = Builder()
    x = b("Relu", b.input(1, 3, 4, 4))
    y = b("Relu", b.norm(conv(b, x), 3))
    y = b("Relu", b("Add", x, b.norm(conv(b, y), 3)))
    after = optimise(b.graph(y))
    assert kinds(after) == ["Relu", "+Conv>Relu", "+Conv+residual>Relu"]
    assert after.nodes[2].inputs[3] is after.nodes[0].outputs[0]
    assert after.nodes[2].origins == ["n4", "n5", "n6", "n7"]
    assert after.nodes[2].name == "n4"


def test_of_two_convolutions_the_later_takes_the_other() -> None:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    first, second = conv(b, x), conv(b, x)
    after = optimise(b.graph(b("Relu", b("Sum", second, first))))
    assert kinds(after) == ["+Conv", "+Conv+residual>Relu"]
    assert [node.name for node in after.nodes] == ["n0", "n1"]


def test_a_convolution_waits_for_its_residual() -> None:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    y = conv(b, x)
    later = b("Exp", b("Neg", x))
    after = optimise(b.graph(b("Add", y, later)))
    assert kinds(after) == ["Neg", "Exp", "+Conv+residual"]


def test_a_convolution_that_has_an_activation_takes_no_residual() -> None:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    plain, active = conv(b, x), b("Relu", conv(b, x))
    after = optimise(b.graph(b("Add", plain, active)))
    assert kinds(after) == ["+Conv>Relu", "+Conv+residual"]
    assert kinds(optimise(Builder_of_two_active().graph())) == ["+Conv>Relu", "+Conv>Relu", "+Add>Relu"]


def Builder_of_two_active() -> Builder:
    b = Builder()
    x = b.input(1, 3, 4, 4)
    b.output(b("Relu", b("Add", b("Relu", conv(b, x)), b("Relu", conv(b, x)))))
    return b


def test_one_residual_each() -> None:
    b = Builder()
    x, other = b.input(1, 3, 4, 4), b.input(1, 3, 4, 4)
    y = b("Relu", b("Sum", conv(b, x), x, other))
    assert kinds(optimise(b.graph(y))) == ["+Conv+residual", "+Add>Relu"]


def test_products_take_residuals_too() -> None:
    b = Builder()
    x = b.input(2, 5, 4)
    y = b("Add", x, b("Add", b("MatMul", x, b.weights(4, 4)), b.weights(4)))
    assert kinds(optimise(b.graph(y))) == ["+FullyConnected+residual"]


def test_gemm_with_data_for_c() -> None:
    b = Builder()
    y = b("Relu", b("Gemm", b.input(2, 3), b.weights(3, 4), b.input(2, 4)))
    assert kinds(optimise(b.graph(y))) == ["+FullyConnected+residual>Relu"]


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 4, 1), (2, 3, 4, 4), (1, 3, 4, 4)])
def test_only_equal_shapes_are_residuals(shape: tuple[int, ...]) -> None:
    b = Builder()
    after = optimise(b.graph(b("Add", conv(b, b.input(1, 3, 4, 4)), b.input(*shape))))
    assert kinds(after) == (["+Conv+residual"] if shape == (1, 3, 4, 4) else ["+Conv", "Add"])


def test_a_constant_is_no_residual() -> None:
    b = Builder()
    after = optimise(b.graph(b("Relu", b("Add", conv(b, b.input(1, 3, 4, 4)), b.weights(1, 3, 4, 4)))))
    assert kinds(after) == ["+Conv", "+Add>Relu"]


def test_a_residual_that_is_made_from_the_convolution() -> None:
    b = Builder()
    y = conv(b, b.input(1, 3, 4, 4))
    assert kinds(optimise(b.graph(b("Add", y, b("Exp", y))))) == ["+Conv", "Exp", "Add"]
    b = Builder()
    y = conv(b, b.input(1, 3, 4, 4))
    assert kinds(optimise(b.graph(b("Add", y, y)))) == ["+Conv", "Add"]


def test_an_add_read_by_more_than_its_activation_stays() -> None:
    b = Builder()
    y = b("Add", b.input(2, 3), b.input(2, 3))
    after = optimise(b.graph(b("Relu", y), b("Neg", y)))
    assert kinds(after) == ["Add", "Relu", "Neg"]


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_other_types_stay(dtype: type) -> None:
    b = Builder(opset=14)
    y = b("Relu", b("Add", b.input(2, 3, dtype=dtype), b.input(2, 3, dtype=dtype)))
    assert kinds(optimise(b.graph(y))) == ["Add", "Relu"]


def test_the_attributes_of_the_given_graph_stay() -> None:
    b = Builder()
    graph = b.graph(b("Relu", b("Add", b.input(2, 3), b.input(2, 3))))
    optimise(graph)
    assert node_of(graph, "Add").attributes == {}
    assert node_of(graph, "Add").domain == ""
