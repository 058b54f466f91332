"""Products with compressed weights as programs run them: few rows and many, kinds of weight, tails, bad numbers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.kernels import LANES
from support.programs import NodeProgram, activation, assert_close, random_array, same_for_threads

from cpuruntime.graph import Compressed, Node, Value
from cpuruntime.ops.tiles.compressed_shapes import COLUMNS, LARGEST_GROUP, ROW_LIMIT, has_kind
from cpuruntime.program.lowerings import compressed_product
from cpuruntime.program.lowerings.compressed_product import FEW, FEW_OF_HALVES

pytestmark = pytest.mark.every_isa

KINDS = [kind for kind in ("u8", "u4", "f16", "bf16") if has_kind(kind)]
WIDE = (2 * COLUMNS - 1) * LANES - 1
"""Columns with a panel that is moved left and ends within a vector."""


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 is read as on processors that do not multiply it."""
    monkeypatch.setattr(compressed_product, "bf16_products", str)


def compressed(kind: str, inner: int, columns: int, group: int = 16, *, zeros: bool = False, **how: Any) -> Compressed:
    random = np.random.default_rng(1)
    if kind in ("f16", "bf16"):
        dtype = np.float16 if kind == "f16" else ml_dtypes.bfloat16
        return Compressed(kind, random.standard_normal((inner, columns)).astype(dtype))
    top, groups = 2 ** int(kind[1:]), -(-inner // group)
    numbers = random.integers(0, top, (inner, columns)).astype(np.uint8)
    scales = random.uniform(0.5, 2, (groups, columns)).astype(np.float32) / top
    shifts = random.integers(0, top, (groups, columns)).astype(np.uint8) if zeros else top // 2
    return Compressed(kind, numbers, group, scales, shifts, **how)


def program(weights: Compressed, rows: int, *, residual: bool = False, function: str = "") -> NodeProgram:
    inner, columns = weights.shape
    inputs = [activation("x", (rows, inner)), Value.of("w", weights), Value.of("b", random_array((columns,), 2))]
    inputs.append(activation("residual", (rows, columns)) if residual else None)
    attributes = {"activation": function, "activation_arguments": []}
    node = Node("FullyConnected", "f", inputs, [activation("y", (rows, columns))], attributes, "cpuruntime")
    return NodeProgram(node, threads=3, watched=("compressed",))


def as_read(x: np.ndarray, group: int) -> np.ndarray:
    """Rows as products of integer weights take them: 16-bit numbers of each group."""
    padded = np.zeros((len(x), -(-x.shape[1] // group) * group), np.float32)
    padded[:, : x.shape[1]] = x
    groups = padded.reshape(len(x), -1, group)
    step = np.abs(groups).max(2, keepdims=True) / ROW_LIMIT
    return (np.rint(groups / np.where(step, step, 1)) * step).reshape(padded.shape)[:, : x.shape[1]]


@pytest.mark.parametrize(("kind", "zeros"), [*((kind, False) for kind in KINDS), ("u8", True), ("u4", True)])
def test_few_rows_and_many(kind: str, zeros: bool) -> None:
    weights = compressed(kind, 100, WIDE, zeros=zeros)
    limit = FEW if weights.group else FEW_OF_HALVES
    for rows, what in ((1, "compressed_rows"), (3, "compressed_rows"), (limit + 5, "compressed_tiles")):
        x, residual = random_array((rows, 100)), random_array((rows, WIDE), 3)
        planned = program(weights, rows, residual=True, function="Relu")
        assert planned.kernels[0].startswith(what)
        read = as_read(x, 16) if weights.group and rows < limit else x
        y = read.astype(np.float64) @ np.asarray(weights) + random_array((WIDE,), 2) + residual
        assert_close(same_for_threads(planned, x, residual), np.maximum(y, 0), 100)


def test_rows_as_float32() -> None:
    weights, x = compressed("u4", 100, WIDE, quantises_rows=False), random_array((2, 100))
    planned = program(weights, 2)
    assert planned.kernels[0].startswith("compressed_tiles")
    y = x.astype(np.float64) @ np.asarray(weights) + random_array((WIDE,), 2)
    assert_close(same_for_threads(planned, x), y, 100)


def test_activations_of_the_epilogue() -> None:
    weights = compressed("u4", 64, WIDE)
    for rows in (1, FEW):
        x = random_array((rows, 64))
        y = (as_read(x, 16) if rows < FEW else x).astype(np.float64) @ np.asarray(weights) + random_array((WIDE,), 2)
        assert_close(same_for_threads(program(weights, rows, function="Sigmoid"), x), 1 / (1 + np.exp(-y)), 64)


def test_largest_sums_fit() -> None:
    """255 times the largest number of a row in all places of the largest group, and the same by the zero point."""
    inner, columns = LARGEST_GROUP, COLUMNS * LANES
    scales, bias = np.ones((1, columns), np.float32), random_array((columns,), 2)
    for number, zeros in ((255, 0), (255, np.zeros((1, columns), np.uint8)), (0, 255)):
        weights = Compressed("u8", np.full((inner, columns), number, np.uint8), inner, scales, zeros)
        for x in (1.0, -1.0):
            y = program(weights, 1).run(np.full((1, inner), x, np.float32))
            np.testing.assert_allclose(y[0], x * inner * (number - (255 if number == 0 else 0)) + bias, rtol=1e-6)


def test_numbers_that_are_none_and_very_small_ones() -> None:
    weights = compressed("u4", 64, COLUMNS * LANES)
    bias = random_array((COLUMNS * LANES,), 2)
    planned = program(weights, 3)
    for number in (np.nan, np.inf, -np.inf):
        x = np.zeros((3, 64), np.float32)
        x[1, 20] = number
        y = planned.run(x)
        assert not np.isfinite(y[1]).any()
        np.testing.assert_array_equal(y[[0, 2]], np.broadcast_to(bias, (2, len(bias))))
    np.testing.assert_array_equal(planned.run(np.full((3, 64), 1e-35, np.float32))[0], bias)
    large = np.full((3, 64), 1e36, np.float32) * np.where(np.arange(64) % 2, 1, -1)
    assert not np.isnan(planned.run(large.astype(np.float32))).any()


def test_narrow_products_read_float32() -> None:
    weights, x = compressed("u4", 64, LANES), random_array((2, 64))
    inputs = [activation("x", (2, 64)), Value.of("w", weights), None, None]
    attributes = {"activation": "", "activation_arguments": []}
    node = Node("FullyConnected", "f", inputs, [activation("y", (2, LANES))], attributes, "cpuruntime")
    planned = NodeProgram(node, watched=("matmul",))
    assert_close(planned.run(x), x.astype(np.float64) @ np.asarray(weights), 64)
