"""Products by Strassen's method as programs run them, on sizes around those of the register tiles, against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.kernels import LANES
from support.programs import NodeProgram, activation, assert_close, random_array, same_for_threads

from cpuruntime.graph import Node, Value
from cpuruntime.program.lowerings import matmul
from cpuruntime.program.lowerings.strassen import (
    FEWEST_COLUMNS,
    FEWEST_ROWS,
    LEAST_INNER,
    StrassenTiling,
    strassen_pays,
)

pytestmark = pytest.mark.every_isa

ROWS, COLUMNS = 4, 2

ForceTiling = Callable[..., None]


@pytest.fixture
def force_tiling(monkeypatch: pytest.MonkeyPatch) -> ForceTiling:
    """Replaces the planner's choice, so that few sizes reach every edge of one compiled tile."""

    def force(chunk: int = 2, group: int = 2) -> None:
        tiling = StrassenTiling(ROWS, COLUMNS, chunk, group)
        monkeypatch.setattr(matmul, "strassen_pays", lambda *sizes: True)
        monkeypatch.setattr(matmul, "strassen_tiling", lambda *sizes: tiling)

    return force


def product(
    rows: int, inner: int, columns: int, *, residual: bool = False, function: str = "",
    arguments: tuple[float, ...] = (), exact: bool = False,
) -> NodeProgram:  # fmt: skip
    """Plans and checks one product by Strassen's method, or with `exact` an ordinary one."""
    w, b = random_array((inner, columns), 1), random_array((columns,), 2)
    arrays = [random_array((rows, inner)), random_array((rows, columns), 3)][: 1 + residual]
    inputs = [
        activation("x", (rows, inner)), Value.of("w", w), Value.of("b", b),
        activation("residual", (rows, columns)) if residual else None,
    ]  # fmt: skip
    attributes = {"activation": function, "activation_arguments": list(arguments)}
    node = Node("FullyConnected", "f", inputs, [activation("y", (rows, columns))], attributes, "cpuruntime")
    planned = NodeProgram(node, threads=3, watched=("matmul" if exact else "strassen",), exact=exact)
    y = arrays[0].astype(np.float64) @ w + b + (arrays[1] if residual else 0)
    if function == "Clip":
        y = np.clip(y, *arguments)
    if function == "LeakyRelu":
        y = np.where(y < 0, arguments[0] * y, y)
    # The sums of quarters are up to twice as large as what they are made of, on both sides.
    assert_close(same_for_threads(planned, *arrays), y, 4 * inner)
    return planned


@pytest.mark.parametrize("rows", [2 * ROWS, 2 * ROWS + 1, 2 * ROWS + 2, 4 * ROWS - 1, 4 * ROWS, 4 * ROWS + 1, 51])
def test_rows_around_the_tiles(rows: int, force_tiling: ForceTiling) -> None:
    force_tiling()
    product(rows, 2 * LANES, 4 * LANES, residual=True)


@pytest.mark.parametrize("columns", [4 * LANES, 6 * LANES, 8 * LANES, 10 * LANES, 14 * LANES])
def test_columns_around_the_tiles(columns: int, force_tiling: ForceTiling) -> None:
    force_tiling()
    product(9, 2 * LANES, columns, residual=True)


@pytest.mark.parametrize("inner", [2 * LANES, 4 * LANES, 6 * LANES])
def test_inner_extents(inner: int, force_tiling: ForceTiling) -> None:
    force_tiling()
    product(10, inner, 4 * LANES)


@pytest.mark.parametrize(("chunk", "group"), [(1, 1), (1, 3), (3, 1), (100, 100)])
def test_chunks_and_groups(chunk: int, group: int, force_tiling: ForceTiling) -> None:
    force_tiling(chunk, group)
    product(29, 2 * LANES, 14 * LANES, residual=True)


@pytest.mark.parametrize(("function", "arguments"), [("Clip", (-0.5, 0.75)), ("LeakyRelu", (0.1,))])
def test_activations(function: str, arguments: tuple[float, ...], force_tiling: ForceTiling) -> None:
    force_tiling()
    product(11, 2 * LANES, 6 * LANES, residual=True, function=function, arguments=arguments)


@pytest.mark.parametrize("rows", [2 * ROWS, 2 * ROWS + 1, 51])
@pytest.mark.parametrize("row", [1, ROWS, -2])
def test_a_row_does_not_change_others(rows: int, row: int, force_tiling: ForceTiling) -> None:
    force_tiling()
    inner, columns = 4 * LANES, 6 * LANES
    planned = product(rows, inner, columns, residual=True)
    x, residual = random_array((rows, inner)), random_array((rows, columns), 3)
    wanted = x.astype(np.float64) @ random_array((inner, columns), 1) + random_array((columns,), 2) + residual
    others = np.arange(rows) != row % rows
    for value in (np.nan, np.inf, 1e20, 3e6):
        x[row] = value
        found = same_for_threads(planned, x, residual)
        assert_close(found[others], wanted[others], 4 * inner)
        assert not np.isnan(value) or np.isnan(found[row]).all()
    x[row] = 0
    np.testing.assert_array_equal(
        same_for_threads(planned, x, residual)[row], random_array((columns,), 2) + residual[row]
    )
    x[:] = 0
    np.testing.assert_array_equal(same_for_threads(planned, x, residual), random_array((columns,), 2) + residual)


def test_a_large_product_is_made_of_seven_and_an_exact_one_is_not() -> None:
    product(FEWEST_ROWS, LEAST_INNER, FEWEST_COLUMNS, residual=True)
    product(FEWEST_ROWS, LEAST_INNER, FEWEST_COLUMNS, residual=True, exact=True)


def test_the_method_pays_for_large_products_of_whole_halves() -> None:
    assert strassen_pays(FEWEST_ROWS, LEAST_INNER, FEWEST_COLUMNS)
    assert not strassen_pays(FEWEST_ROWS - 1, LEAST_INNER, FEWEST_COLUMNS)
    assert not strassen_pays(FEWEST_ROWS, LEAST_INNER - 2 * LANES, FEWEST_COLUMNS)
    assert not strassen_pays(FEWEST_ROWS, LEAST_INNER, FEWEST_COLUMNS - 2 * LANES)
    assert not strassen_pays(FEWEST_ROWS, LEAST_INNER + LANES, FEWEST_COLUMNS)
