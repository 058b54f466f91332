"""Constants in few bits become compressed ones of the same numbers, and float32 ones where that is asked."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime.graph import Compressed, Graph, Node
from cpuruntime.passes import WeightStorage, compress

AS_WRITTEN = WeightStorage()


def dequantised(
    b: Builder, rows: int, columns: int, dtype: Any, *, axis: int = 0, block: int = 0, zeros: bool = True
) -> Any:
    """A DequantizeLinear of a constant with scales along an axis, and the numbers that it stands for."""
    low, high = (-8, 8) if dtype is ml_dtypes.int4 else (0, 16) if dtype is ml_dtypes.uint4 else (-128, 128)
    numbers = b.random.integers(low, high, (rows, columns))
    shape = [rows, columns]
    shape[axis] = -(-shape[axis] // block) if block else 1
    scales = b.random.uniform(0.1, 1, shape).astype(np.float32)
    shifts = b.random.integers(low, high, shape) if zeros else np.zeros(shape, int)
    spread = [np.repeat(each, block or (rows, columns)[axis], axis)[:rows, :columns] for each in (scales, shifts)]
    inputs = [numbers, scales, shifts] if block else [numbers, scales.reshape(-1), shifts.reshape(-1)]
    values = [b.constant(x, kind) for x, kind in zip(inputs, (dtype, np.float32, dtype))]
    attributes = {"axis": axis, "block_size": block} if block else {"axis": 1 - axis}
    expected = (numbers - spread[1]).astype(np.float32) * spread[0]
    return b("DequantizeLinear", *values[: 2 + zeros], **attributes), expected


def product(graph: Graph) -> Node:
    return next(node for node in graph.nodes if node.op_type in ("MatMul", "Gemm"))


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, np.int8])
@pytest.mark.parametrize("zeros", [False, True])
def test_blocks_of_a_right_side(dtype: Any, zeros: bool) -> None:
    b = Builder(21)
    w, numbers = dequantised(b, 72, 24, dtype, block=32, zeros=zeros)
    graph = compress(b.graph(b("MatMul", b.input(3, 72), w)), AS_WRITTEN)
    constant = product(graph).require(1).constant
    assert isinstance(constant, Compressed)
    assert (constant.kind, constant.group, constant.error) == ("u8" if dtype is np.int8 else "u4", 32, None)
    np.testing.assert_array_equal(np.asarray(constant), numbers)
    assert kinds(graph) == ["MatMul"]


def test_transposed_right_sides() -> None:
    for block in (0, 16):
        b = Builder(21)
        w, numbers = dequantised(b, 24, 80, ml_dtypes.int4, axis=1, block=block)
        v, others = dequantised(b, 24, 80, ml_dtypes.int4, axis=1, block=block)
        x = b.input(3, 80)
        first, second = b("MatMul", x, b("Transpose", w, perm=[1, 0])), b("Gemm", x, v, transB=1)
        graph = compress(b.graph(first, second), AS_WRITTEN)
        for node, expected in zip(graph.nodes, (numbers, others)):
            assert isinstance(node.require(1).constant, Compressed)
            np.testing.assert_array_equal(np.asarray(node.require(1).constant), expected.T)
            assert not node.attributes.get("transB", 0)


@pytest.mark.parametrize("block", [8, 24, 40])
def test_blocks_without_kernels_stay(block: int) -> None:
    b = Builder(21)
    w, _ = dequantised(b, 80, 24, ml_dtypes.int4, block=block)
    graph = compress(b.graph(b("MatMul", b.input(3, 80), w)), AS_WRITTEN)
    assert kinds(graph) == ["DequantizeLinear", "MatMul"]


def test_beside_right_sides_that_are_computed() -> None:
    b = Builder(21)
    w, _ = dequantised(b, 32, 24, ml_dtypes.int4, block=16)
    x, y = b.input(None, 32), b.input(1, 5, None, 24)
    first = b("MatMul", x, w)
    graph = compress(b.graph(first, b("MatMul", y, b("Transpose", y, perm=[0, 1, 3, 2]))), AS_WRITTEN)
    assert isinstance(product(graph).require(1).constant, Compressed)


def test_large_blocks_are_divided() -> None:
    b = Builder(21)
    w, numbers = dequantised(b, 1100, 8, ml_dtypes.int4, block=512)
    constant = product(compress(b.graph(b("MatMul", b.input(3, 1100), w)), AS_WRITTEN)).require(1).constant
    assert constant.group == 256
    np.testing.assert_array_equal(np.asarray(constant), numbers)


def test_columns_of_8_bits_where_nothing_else_is_quantised() -> None:
    for quantised in (False, True):
        b = Builder(21)
        w, numbers = dequantised(b, 80, 24, np.int8)
        x = b.input(3, 80)
        if quantised:
            scale, zero = b.constant(0.1), b.constant(3, np.uint8)
            x = b("DequantizeLinear", b("QuantizeLinear", x, scale, zero), scale, zero)
        constant = product(compress(b.graph(b("MatMul", x, w)), AS_WRITTEN)).require(1).constant
        assert isinstance(constant, Compressed) is not quantised
        if not quantised:
            np.testing.assert_array_equal(np.asarray(constant), numbers)


@pytest.mark.parametrize("scale", [1e-42, np.inf, np.nan])
def test_scales_that_kernels_cannot_rely_on(scale: float) -> None:
    b = Builder(21)
    scales = b.constant(np.full((2, 24), scale))
    w = b("DequantizeLinear", b.constant(np.ones((64, 24)), ml_dtypes.int4), scales, axis=0, block_size=32)
    graph = compress(b.graph(b("MatMul", b.input(3, 64), w)), AS_WRITTEN)
    assert kinds(graph) == ["DequantizeLinear", "MatMul"]


@pytest.mark.parametrize(("kind", "most"), [("u8", 0.01), ("u4", 0.15), ("f16", 3e-4), ("bf16", 3e-3)])
def test_float32_weights_in_fewer_bits(kind: str, most: float) -> None:
    b = Builder(21)
    x, w, v = b.input(3, 300), b.weights(300, 256), b.weights(256, 256)
    y = b("Gemm", b("MatMul", x, w), v, transB=1)
    before = b.graph(y)
    graph = compress(before, WeightStorage(kind, 48))
    for node, expected in zip(graph.nodes, (w.data, v.data.T)):
        constant = node.require(1).constant
        assert isinstance(constant, Compressed)
        lost = np.asarray(constant) - expected
        assert constant.error == pytest.approx(np.linalg.norm(lost) / np.linalg.norm(expected), rel=1e-3)
        assert constant.error < most
    assert not any(isinstance(value.constant, Compressed) for value in before.constants())
    assert compress(graph, WeightStorage(kind, 48)).nodes[0].require(1).constant is graph.nodes[0].require(1).constant
    assert kinds(optimise(graph)) == ["+FullyConnected", "+FullyConnected"]


def test_float32_weights_that_stay() -> None:
    b = Builder(21)
    x, small, wild = b.input(3, 300), b.weights(300, 16), b.constant(np.full((300, 256), np.inf))
    graph = compress(b.graph(b("MatMul", x, small), b("MatMul", x, wild)), WeightStorage("u4"))
    assert not any(isinstance(value.constant, Compressed) for value in graph.constants())
    b = Builder(21)
    y = b("MatMul", b.input(3, 300), b.constant(np.full((300, 256), 1e5)))
    graph = compress(b.graph(y), WeightStorage("f16"))
    assert not any(isinstance(value.constant, Compressed) for value in graph.constants())


def test_groups_of_zeros_stay_zero() -> None:
    b = Builder(21)
    y = b("MatMul", b.input(3, 512), b.constant(np.zeros((512, 128))))
    for kind in ("u8", "u4"):
        constant = product(compress(b.graph(y), WeightStorage(kind))).require(1).constant
        assert constant.error == 0
        assert not np.asarray(constant).any()


def test_factors_of_columns_and_matrices_side_by_side() -> None:
    random = np.random.default_rng(0)
    q, scales = random.integers(0, 16, (40, 6)).astype(np.uint8), random.uniform(1, 2, (3, 6)).astype(np.float32)
    a, factors = Compressed("u4", q, 16, scales, 8), random.uniform(1, 2, 6).astype(np.float32)
    scaled = a * factors
    assert isinstance(scaled, Compressed)
    np.testing.assert_allclose(np.asarray(scaled), np.asarray(a) * factors, rtol=1e-6)
    both = Compressed.joined([a, scaled])
    np.testing.assert_array_equal(np.asarray(both), np.concatenate([np.asarray(a), np.asarray(scaled)], 1))
    assert Compressed.joined([a, Compressed("u4", q, 16, scales, 7)]) is None
    assert Compressed.joined([a, np.asarray(a)]) is None
    outline = a.outline()
    assert (outline.shape, outline.form, outline.numbers.strides) == (a.shape, a.form, (0, 0))
