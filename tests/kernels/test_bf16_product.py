"""Products of bf16 numbers as programs run them, against float64 products of rounded numbers.

Processors without the instruction run the same kernels with two multiply-adds for each pair.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cases.convolution import COLUMNS, DENSE, EPILOGUES, FIRST_LAYERS, POINTWISE, ROWS, Convolution
from support.convolutions import expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, activation, assert_close, only, random_array, same_for_threads

from cpuruntime.graph import Compressed, Node, Value
from cpuruntime.program.convolution import bf16_product
from cpuruntime.program.convolution.geometry import FEW_CHANNELS
from cpuruntime.program.lowerings import compressed_product
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.tuning.bf16_tiles import Bf16Tiling

pytestmark = [pytest.mark.every_isa, pytest.mark.skipif(LANES < 8, reason="no processor with so few lanes has them")]


@pytest.fixture(autouse=True)
def multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowerings take bf16 products on every processor."""
    for module in (bf16_product, compressed_product):
        monkeypatch.setattr(module, "bf16_products", lambda: "for tests")


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16).astype(np.float64)


def product(weights: np.ndarray, rows: int, *, residual: bool = False, function: str = "") -> NodeProgram:
    inner, columns = weights.shape
    stored = Compressed("bf16", weights.astype(ml_dtypes.bfloat16))
    inputs = [activation("x", (rows, inner)), Value.of("w", stored), Value.of("b", random_array((columns,), 2))]
    inputs.append(activation("residual", (rows, columns)) if residual else None)
    attributes = {"activation": function, "activation_arguments": []}
    node = Node("FullyConnected", "f", inputs, [activation("y", (rows, columns))], attributes, "cpuruntime")
    return NodeProgram(node, threads=3)


@pytest.mark.parametrize(("rows", "inner"), [(4, 1), (5, 33), (17, 100)])
@pytest.mark.parametrize("chunk", [1, 100])
def test_matrices(rows: int, inner: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_product, "rank_bf16_tilings", lambda *sizes: only(Bf16Tiling(ROWS, COLUMNS, chunk)))
    columns = 7 * LANES - 1
    weights, x, residual = random_array((inner, columns), 1), random_array((rows, inner)), random_array((rows, columns))
    planned = product(weights, rows, residual=True, function="Relu")
    assert planned.program.steps[0].kernel.family == "bf16_product"
    expected = rounded(x) @ rounded(weights) + random_array((columns,), 2) + residual
    assert_close(same_for_threads(planned, x, residual), np.maximum(expected, 0), inner)


def test_activations_of_the_epilogue() -> None:
    weights, x = random_array((64, 5 * LANES), 1), random_array((9, 64))
    y = rounded(x) @ rounded(weights) + random_array((5 * LANES,), 2)
    assert_close(same_for_threads(product(weights, 9, function="Sigmoid"), x), 1 / (1 + np.exp(-y)), 64)


def test_numbers_are_rounded_to_the_nearest_and_ties_to_even() -> None:
    size = 4 * LANES
    bits = np.random.default_rng(0).integers(0, 2**32, (8, size), dtype=np.uint32)
    bits[:4] = bits[:4] & 0xFFFF0000 | 0x8000  # ties
    x = bits.view(np.float32)
    usual = (np.abs(x) < 1e38) & (np.abs(x) > 1e-30)
    x = np.where(usual, x, np.float32(0.5))
    found = product(np.eye(size, dtype=np.float32), 8).run(x) - random_array((size,), 2)
    large = np.abs(x) > 1e9  # the bias changes nothing there
    np.testing.assert_array_equal(found[large], rounded(x)[large])
    x[3, 5] = np.nan
    found = product(np.eye(size, dtype=np.float32), 8).run(x)
    assert np.isnan(found[3]).all()
    assert np.isfinite(np.delete(found, 3, 0)).all()


def by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner takes the tile registers of AMX, or memory in their place."""
    monkeypatch.setattr(bf16_product, "bf16_tiles", lambda: "for tests")
    monkeypatch.setattr(Emitter, "fastest_method", lambda emitter, query, candidates, emit: candidates[-1].choice)


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(16, 64, 64), (33, 33, 70), (100, 200, 133), (70, 96, 5 * LANES + 1)]
)
def test_matrices_by_amx(rows: int, inner: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    by_tiles(monkeypatch)
    weights, x, residual = random_array((inner, columns), 1), random_array((rows, inner)), random_array((rows, columns))
    for function in ("", "Relu"):
        planned = product(weights, rows, residual=True, function=function)
        assert planned.program.steps[0].kernel.name.startswith("bf16_product_amx")
        y = rounded(x) @ rounded(weights) + random_array((columns,), 2) + residual
        assert_close(same_for_threads(planned, x, residual), np.maximum(y, 0) if function else y, inner)


def test_lines_shorter_than_tile_registers_have_other_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    by_tiles(monkeypatch)
    planned = product(random_array((64, 64), 1), 15)
    assert not planned.program.steps[0].kernel.name.startswith("bf16_product_amx")


def has_kernel(case: Convolution) -> bool:
    return case.x[1] > FEW_CHANNELS or case.dilations[-1] == 1


class Rounded(Convolution):
    """A convolution that may round to bf16, and has such weights for the reference."""

    @property
    def weights(self) -> np.ndarray:
        return rounded(super().weights).astype(np.float32)

    def node(self) -> Node:
        node = super().node()
        node.attributes["precision"] = "bf16"
        return node


def check(plain: Convolution, *halos: str) -> NodeProgram:
    case = Rounded(**vars(plain))
    planned = NodeProgram(case.node(), threads=3, watched=("bf16_product",), prepare=halo_around(*halos))
    x, *residual = case.inputs
    assert_close(same_for_threads(planned, x, *residual), expected(case, [rounded(x), *residual]), case.terms)
    return planned


@pytest.mark.parametrize(
    "case", [case for case in (*DENSE, *EPILOGUES, *FIRST_LAYERS) if has_kernel(case)], ids=lambda case: case.name
)
def test_convolutions(case: Convolution, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = Bf16Tiling(min(ROWS, case.output_shape[-1]), min(COLUMNS, -(-case.channels // LANES)), 2)
    monkeypatch.setattr(bf16_product, "rank_bf16_tilings", lambda *sizes: only(fitting))
    check(case)


BY_AMX = [
    Convolution((2, 12, 5, 37), 40),
    Convolution((1, 3, 9, 40), 35, strides=(2, 1), residual=True),
    Convolution((1, 48, 9, 10), 33, (1, 1), pads=(0, 0, 0, 0), activation="LeakyRelu", arguments=(0.25,)),
]


@pytest.mark.parametrize("case", BY_AMX, ids=lambda case: case.name)
def test_convolutions_by_amx(case: Convolution, monkeypatch: pytest.MonkeyPatch) -> None:
    by_tiles(monkeypatch)
    assert any(step.kernel.name.startswith("bf16_product_amx") for step in check(case).program.steps)


@pytest.mark.parametrize("case", POINTWISE, ids=lambda case: case.name)
def test_pointwise_convolutions(case: Convolution) -> None:
    for halos in ((), ("x",), ("y",), ("residual",)):
        check(case, *halos)
