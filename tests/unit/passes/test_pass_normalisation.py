"""Layer normalisation in ONNX's operators and in all its spellings."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise

from cpuruntime.graph import Value

NAME = "normalisation"
SHAPE = (2, 3, 8)


def mean(b: Builder, x: Value, axes: tuple[int, ...] = (-1,), **attributes: int) -> Value:
    if b.opset >= 18:
        return b("ReduceMean", x, b.integers(*axes), **attributes)
    return b("ReduceMean", x, axes=list(axes), **attributes)


def square(b: Builder, x: Value, power: bool) -> Value:
    return b("Pow", x, b.constant(2.0)) if power else b("Mul", x, x)


def over_root(b: Builder, x: Value, variance: Value, spelling: str) -> Value:
    """x / sqrt(variance + 1e-6)."""
    epsilon = b.constant(1e-6)
    shifted = b("Add", epsilon, variance) if spelling == "reciprocal" else b("Add", variance, epsilon)
    if spelling == "power":
        return b("Mul", x, b("Pow", shifted, b.constant(-0.5)))
    root = b("Sqrt", shifted)
    if spelling == "reciprocal":
        return b("Mul", b("Reciprocal", root), x)
    return b("Mul", x, b("Div", b.constant(1.0), root)) if spelling == "one over" else b("Div", x, root)


SPELLINGS = pytest.mark.parametrize("spelling", ["division", "reciprocal", "power", "one over"])
POWER = pytest.mark.parametrize("power", [False, True])


@SPELLINGS
@POWER
@pytest.mark.parametrize("opset", [13, 18])
def test_layer_norm(spelling: str, power: bool, opset: int) -> None:
    b = Builder(opset)
    x = b.input(*SHAPE)
    distance = b("Sub", x, mean(b, x))
    y = over_root(b, distance, mean(b, square(b, distance, power)), spelling)
    y = b("Mul", y, b.weights(8)) if power else b("Mul", b.weights(1, 8), y)
    y = b("Add", b.weights(8), y) if power else b("Add", y, b.weights(8))
    after = optimise(b.graph(y), NAME)
    assert kinds(after) == ["+LayerNorm"]
    assert attributes_of(after, "LayerNorm", "axis", "epsilon") == [2, pytest.approx(1e-6)]
    assert [value.constant is not None for value in after.nodes[0].inputs] == [False, True, True]


@SPELLINGS
@POWER
def test_rms_norm(spelling: str, power: bool) -> None:
    b = Builder(18)
    x = b.input(*SHAPE)
    y = over_root(b, x, mean(b, square(b, x, power)), spelling)
    after = optimise(b.graph(b("Mul", b.weights(8), y)), NAME)
    assert kinds(after) == ["+RmsNorm"]
    assert node_of(after, "RmsNorm").inputs[2] is None


def test_the_distance_may_be_computed_twice_and_over_two_axes() -> None:
    b = Builder(18)
    x = b.input(*SHAPE)
    first, second = (b("Sub", x, mean(b, x, (-1, 1))) for _ in range(2))
    y = over_root(b, first, mean(b, square(b, second, True), (1, 2)), "division")
    after = optimise(b.graph(b("Mul", y, b.weights(3, 8))), NAME)
    assert kinds(after) == ["+LayerNorm"]
    assert attributes_of(after, "LayerNorm", "axis") == [1]


@pytest.mark.parametrize(("op_type", "opset"), [("LayerNormalization", 17), ("RMSNormalization", 23)])
@pytest.mark.parametrize("axis", [-1, 1])
def test_operators(op_type: str, opset: int, axis: int) -> None:
    b = Builder(opset)
    shape = SHAPE[axis:]
    after = optimise(b.graph(b(op_type, b.input(*SHAPE), b.weights(*shape), axis=axis, epsilon=1e-3)), NAME)
    assert kinds(after) == ["+LayerNorm" if op_type == "LayerNormalization" else "+RmsNorm"]
    assert attributes_of(after, after.nodes[0].op_type, "axis", "epsilon") == [axis % 3, pytest.approx(1e-3)]


def test_parameters_that_vary_along_other_axes_stay_outside() -> None:
    b = Builder(17)
    x = b.input(*SHAPE)
    y = b("Mul", b("LayerNormalization", x, b.weights(8), b.weights(8)), b.weights(3, 1))
    z = b("Add", b("LayerNormalization", x, b.weights(8)), b.weights(2, 1, 8))
    assert sorted(kinds(optimise(b.graph(y, z), NAME))) == ["+LayerNorm", "+LayerNorm", "Add", "Mul"]


def test_a_factor_after_the_summand_stays_outside() -> None:
    b = Builder(17)
    y = b("LayerNormalization", b.input(*SHAPE), b.weights(8), b.weights(8))
    assert kinds(optimise(b.graph(b("Mul", y, b.weights(8))), NAME)) == ["+LayerNorm", "Mul"]


def test_what_is_read_elsewhere_stays() -> None:
    b = Builder(18)
    x = b.input(*SHAPE)
    distance = b("Sub", x, mean(b, x))
    y = over_root(b, distance, mean(b, square(b, distance, True)), "division")
    b.output(y, distance)
    after = optimise(b.graph(b("Mul", y, b.weights(8))), NAME)
    assert sorted(kinds(after)) == ["+LayerNorm", "Mul", "ReduceMean", "Sub"]


@pytest.mark.parametrize("flaw", ["other mean", "other axes", "no keepdims", "cube"])
def test_what_only_looks_alike(flaw: str) -> None:
    b = Builder(18)
    x = b.input(8, 8, 8)
    other = b.input(8, 8, 8) if flaw == "other mean" else x
    distance = b("Sub", x, mean(b, other, (1,) if flaw == "other axes" else (-1,)))
    power = b("Pow", distance, b.constant(3.0)) if flaw == "cube" else square(b, distance, True)
    power = b("Abs", power)
    variance = mean(b, power, keepdims=0) if flaw == "no keepdims" else mean(b, power)
    after = optimise(b.graph(over_root(b, distance, variance, "division")), NAME)
    assert not any("Norm" in kind for kind in kinds(after))


def test_further_outputs_are_computed_by_the_definition() -> None:
    b = Builder(17)
    y, average = b.many(2, "LayerNormalization", b.input(*SHAPE), b.weights(8))
    after = optimise(b.graph(y, average), NAME)
    assert "LayerNormalization" not in kinds(after)
    assert len(after.outputs) == 2
    assert np.prod(after.outputs[1].static_shape) == 6
