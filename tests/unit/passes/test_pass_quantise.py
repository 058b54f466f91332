"""Quantised models keep their integers: what becomes operators on bytes, and what stays as it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, random_inputs

from cpuruntime import passes
from cpuruntime.graph import Graph, Value
from cpuruntime.passes import evaluate

SCALE, ZERO = 0.05, 120


class Quantised(Builder):
    """Writes the pairs of QuantizeLinear and DequantizeLinear of quantised models."""

    def q(self, x: Value, scale: Any = SCALE, zero: Any = ZERO, dtype: Any = np.uint8) -> Value:
        return self("QuantizeLinear", x, self.constant(scale), self.constant(zero, dtype))

    def dq(self, x: Value, scale: Any = SCALE, zero: Any = ZERO, dtype: Any = np.uint8, **axis: int) -> Value:
        return self("DequantizeLinear", x, self.constant(scale), self.constant(zero, dtype), **axis)

    def pair(self, x: Value, scale: Any = SCALE, zero: Any = ZERO, dtype: Any = np.uint8) -> Value:
        return self.dq(self.q(x, scale, zero, dtype), scale, zero, dtype)

    def w(self, *shape: int, axis: int = 0) -> Value:
        """Weights with a scale for each place of an axis."""
        array = self.constant(self.random.integers(-127, 128, shape), np.int8)
        scales = 0.002 + 0.001 * np.arange(shape[axis])
        return self.dq(array, scales, np.zeros(shape[axis]), np.int8, axis=axis)

    def bias(self, count: int) -> Value:
        steps = self.constant(self.random.integers(-9999, 9999, count), np.int32)
        return self("DequantizeLinear", steps, self.constant(SCALE * (0.002 + 0.001 * np.arange(count))), axis=0)


def rewritten(graph: Graph, steps: int = 1, share: float = 0.02) -> Graph:
    """The graph after the passes, of which the results are those of the graph as it is written: integers may differ by
    so many steps, and at most such a share of them does."""
    after = passes.run(graph, passes.QUANTISE)
    feeds = random_inputs(graph)
    for expected, found in zip(run(graph, feeds), run(after, feeds), strict=True):
        assert (expected.dtype, expected.shape) == (found.dtype, found.shape)
        difference = np.abs(expected.astype(np.float64) - found)
        if expected.dtype.kind == "f":
            assert difference.max() <= 1e-5 * np.abs(expected).max()
        else:
            assert difference.max() <= steps
            assert np.mean(difference > 0) <= share
    return after


def kinds(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def run(graph: Graph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    known: dict[Value, Any] = {value: feeds[value.name] for value in graph.inputs}
    for node in graph.nodes:
        arrays = [None if v is None else known[v] if v.constant is None else v.constant for v in node.inputs]
        known |= zip(node.outputs, evaluate(node, arrays))
    return [known[value] for value in graph.outputs]


def test_a_convolution_with_relu_and_one_with_a_residual() -> None:
    b = Quantised(13)
    x = b.pair(b.input(1, 8, 6, 6))
    y = b.pair(b("Relu", b("Conv", x, b.w(8, 8, 3, 3), b.bias(8), pads=[1] * 4)), 0.1, 0)
    z = b("Clip", b("Add", x, b("Conv", y, b.w(8, 4, 1, 1), group=2)), b.constant(-1), b.constant(2))
    graph = rewritten(b.graph(b.q(z, 0.04, 3)))
    assert kinds(graph) == ["Quantise", "QuantisedConvolution", "QuantisedConvolution"]
    first, second = graph.nodes[1:]
    assert (first.attributes["y_zero"], first.attributes["low"], first.attributes["high"]) == (0, 0, 255)
    assert (second.attributes["low"], second.attributes["high"]) == (0, 53)
    assert second.input(4) is graph.nodes[0].outputs[0]
    assert first.input(3).constant.dtype == np.int32


def test_an_add_of_bytes_behind_a_convolution_that_writes_bytes() -> None:
    b = Quantised(13)
    x = b.pair(b.input(1, 8, 6, 6))
    y = b.pair(b("Conv", x, b.w(8, 8, 3, 3), b.bias(8), pads=[1] * 4), 0.11, 7)
    graph = rewritten(b.graph(b.q(b("Relu", b("Add", y, x)), 0.037, 3)))
    assert kinds(graph) == ["Quantise", "QuantisedConvolution"]
    found = graph.nodes[1].attributes
    np.testing.assert_allclose(found["inner"], [0.11 / 0.037, -7, 248], rtol=1e-6)
    assert found["low"] == 3


def test_a_convolution_that_is_added_to_itself() -> None:
    b = Quantised(13)
    y = b.pair(b("Conv", b.pair(b.input(1, 8, 6, 6)), b.w(8, 8, 1, 1)), 0.1)
    assert kinds(rewritten(b.graph(b.q(b("Add", y, y), 0.04))))[:2] == ["Quantise", "QuantisedConvolution"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_weights_with_zero_points_and_a_result_in_float32(dtype: Any) -> None:
    b = Quantised(13)
    w = b.constant(b.random.integers(0, 100, (4, 3, 3)), dtype)
    w = b.dq(w, 0.01, np.arange(4), dtype, axis=0) if dtype is np.int8 else b.dq(w, 0.01, 128)
    graph = rewritten(b.graph(b("Clip", b("Conv", b.pair(b.input(2, 3, 9)), w), b.constant(-1), b.constant(1))))
    assert kinds(graph) == ["Quantise", "QuantisedConvolution"]
    assert graph.nodes[1].attributes["activation"] == "Clip"
    assert graph.nodes[1].attributes["weights_zero"] == (list(range(4)) if dtype is np.int8 else [128] * 4)


def test_products() -> None:
    b = Quantised(13)
    x = b.pair(b.input(5, 16))
    y = b.pair(b("Add", b("MatMul", x, b.w(16, 8, axis=1)), b.weights(8)))
    z = b.pair(b("Gemm", y, b.w(6, 8), b.bias(6), transB=1, alpha=0.5))
    graph = rewritten(b.graph(b("MatMul", z, b("Transpose", b.w(7, 6), perm=[1, 0]))))
    assert kinds(graph) == ["Quantise", "QuantisedMatMul", "QuantisedMatMul", "QuantisedMatMul"]


def test_products_of_two_values() -> None:
    b = Quantised(13)
    x, y = b.pair(b.input(2, 5, 16)), b.pair(b.input(2, 16, 7), 0.02, 3)
    graph = rewritten(b.graph(b("MatMul", b.pair(b("MatMul", x, y), 0.5), b.pair(b.input(2, 7, 3)))))
    assert kinds(graph) == ["Quantise", "Quantise", "QuantisedMatMul", "Quantise", "QuantisedMatMul"]


@pytest.mark.parametrize("scales", [1, 6])
def test_dynamic_quantisation(scales: int) -> None:
    b = Quantised(13)
    x, scale, zero = b.many(3, "DynamicQuantizeLinear", b.input(5, 16))
    w, of_w = b.constant(b.random.integers(0, 255, (16, 6)), np.uint8), b.constant([128] * scales, np.uint8)
    sums = b("Cast", b("MatMulInteger", x, w, zero, of_w), to=1)
    y = b("Add", b("Mul", sums, b("Mul", scale, b.constant([0.01] * scales))), b.weights(6))
    assert kinds(rewritten(b.graph(y))) == ["DynamicQuantizeLinear", "QuantisedMatMul"]


def test_operators_that_are_quantised_themselves() -> None:
    b = Quantised(13)
    scale, zero = b.constant(SCALE), b.constant(ZERO, np.uint8)
    x = b.q(b.input(1, 4, 6, 6))
    w, factors = b.constant(b.random.integers(-99, 99, (6, 4, 3, 3)), np.int8), b.constant(np.linspace(0.001, 0.01, 6))
    bias = b.constant(b.random.integers(-99, 99, 6), np.int32)
    zeros = b.constant(np.zeros(6), np.int8)
    y = b("QLinearConv", x, scale, zero, w, factors, zeros, scale, zero, bias, strides=[2, 2])
    w, of_w = b.constant(b.random.integers(0, 255, (2, 8)), np.uint8), b.constant(128, np.uint8)
    graph = b.graph(b("QLinearMatMul", y, scale, zero, w, b.constant(0.01), of_w, b.constant(0.1), zero))
    assert kinds(rewritten(graph)) == ["Quantise", "QuantisedConvolution", "QuantisedMatMul"]


def test_what_moves_numbers_moves_bytes() -> None:
    b = Quantised(13)
    q = b.q(b.input(1, 8, 6, 6))
    x = b.pair(b("MaxPool", b.dq(q), kernel_shape=[2, 2]))
    x = b.pair(b("Transpose", x, perm=[0, 2, 3, 1]), 0.1, 100)
    y = b.pair(b("Reshape", x, b.integers(5, 40)), 0.1, 100)
    z = b.pair(b("Concat", y, b.dq(b.constant(b.random.integers(0, 255, (1, 40)), np.uint8), 0.2), y, axis=0), 0.1, 90)
    parts = b.many(2, "Split", z, b.integers(5, 6), axis=0)
    graph = rewritten(b.graph(b.q(parts[0], 0.1, 90), b.q(b("Relu", parts[1]), 0.2, 0)), steps=0)
    made = kinds(graph)
    tables = ["ByteTable"]
    assert made == ["Quantise", "MaxPool", "Transpose", *tables, "Reshape", *tables * 2, "Concat", "Split", *tables]


def test_chains_of_one_value_become_tables() -> None:
    b = Quantised(14)
    x = b.pair(b("Conv", b.pair(b.input(1, 4, 5, 5)), b.w(4, 4, 1, 1)))
    y = b.pair(b("Mul", x, b.pair(b("Sigmoid", x), 0.004, 0)))
    z = b.pair(b("Mul", b("HardSwish", y), b.constant([[[0.5]]])), 0.03)
    graph = rewritten(b.graph(b.q(b("Add", z, x))), steps=1)
    made = ["Quantise", "QuantisedConvolution", "ByteTable"]
    assert kinds(graph) == made


def test_other_dialects() -> None:
    """Zero points that are cast, bytes of a narrower range, weights that are quantised in the graph, biases of floats;
    scales of one element in an array."""
    b = Quantised(21)
    zero = b("Cast", b.constant(7, np.int64), to=3)
    x = b("QuantizeLinear", b.input(1, 4, 5, 5), b.constant([SCALE]), zero)
    x = b("DequantizeLinear", x, b.constant([SCALE]), zero)
    factors, zeros = b.constant(np.linspace(0.01, 0.02, 6)), b.constant(np.zeros(6), np.int8)
    w = b("QuantizeLinear", b.weights(6, 4, 3, 3), factors, zeros, axis=0)
    w = b("DequantizeLinear", w, factors, zeros, axis=0)
    y = b("QuantizeLinear", b("Conv", x, w, b.weights(6)), b.constant(0.1), b.constant(0, np.int8))
    y = b("Clip", y, b.constant(-100, np.int8), b.constant(99, np.int8))
    graph = rewritten(b.graph(y))
    assert kinds(graph) == ["Quantise", "QuantisedConvolution"]
    assert (graph.nodes[1].attributes["low"], graph.nodes[1].attributes["high"]) == (-100, 99)


@pytest.mark.parametrize("scale", [0.0, 1e-40, np.inf, np.nan, -0.1])
def test_scales_that_kernels_cannot_rely_on(scale: float) -> None:
    b = Quantised(13)
    x = b.pair(b.input(1, 4, 5, 5), scale)
    graph = passes.run(b.graph(b.q(b("Conv", x, b.w(4, 4, 1, 1)))), passes.QUANTISE)
    assert kinds(graph) == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Quantise"]


def test_other_things_that_stay() -> None:
    b = Quantised(21)
    x = b.input(1, 4, 5, 5)
    many = b("DequantizeLinear", b("QuantizeLinear", x, b.positive(4)), b.positive(4))  # a scale for each channel
    b.output(b("Conv", many, b.w(4, 4, 1, 1)))
    long = b.dq(b("QuantizeLinear", x, b.constant(0.01), b.constant(0, np.uint16)), 0.01, 0, np.uint16)
    b.output(b("Conv", long, b.w(4, 4, 1, 1)))
    computed = b("DequantizeLinear", b.q(x), b("Abs", b.input()), b.constant(0, np.uint8))
    b.output(b("Conv", computed, b.w(4, 4, 1, 1)))
    b.output(b("Relu", b.pair(b("Exp", x))))
    made = kinds(passes.run(b.graph(), passes.QUANTISE))
    assert not {"Quantise", "Dequantise", "QuantisedConvolution", "ByteTable"} & set(made)


@pytest.mark.parametrize(("rows", "fits"), [(66_000, True), (67_000, False)])
def test_sums_that_may_leave_32_bits_stay(rows: int, fits: bool) -> None:
    b = Quantised(13)
    w = b.dq(b.constant(np.full((rows, 1), 127), np.int8), 0.01, 0, np.int8)
    graph = passes.run(b.graph(b("MatMul", b.pair(b.input(1, rows), SCALE, 0), w)), passes.QUANTISE)
    assert ("QuantisedMatMul" in kinds(graph)) == fits


@pytest.mark.parametrize("attributes", [{"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]}, {"kernel_shape": [2, 2]}, {}])
def test_averages(attributes: dict[str, Any]) -> None:
    b = Quantised(13)
    x = b.pair(b.input(1, 8, 6, 7))
    y = b("AveragePool" if attributes else "GlobalAveragePool", x, **attributes)
    graph = rewritten(b.graph(b.q(b("Relu", y), 0.04, 10)))
    assert kinds(graph) == ["Quantise", "QuantisedAveragePool"]
    assert graph.nodes[1].attributes["low"] == 10


def test_averages_of_windows_beyond_the_padding() -> None:
    b = Quantised(13)
    y = b("AveragePool", b.pair(b.input(1, 8, 6, 6)), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    assert "QuantisedAveragePool" not in kinds(rewritten(b.graph(b.q(y))))


def test_normalisations_write_bytes() -> None:
    b = Quantised(17)
    x = b("LayerNormalization", b.input(3, 16), b.weights(16), b.weights(16))
    x = b("MatMul", b.pair(x), b.w(16, 8, axis=1))
    graph = passes.run(b.graph(b.q(b("Softmax", x), 1 / 255, 0)), passes.QUANTISE + passes.PASSES)
    assert kinds(graph) == ["LayerNorm", "QuantisedMatMul", "Softmax"]
    assert graph.nodes[0].attributes["y_zero"] == ZERO
