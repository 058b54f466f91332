"""Matrix products as programs run them, on sizes around those of the register tiles, and their packing."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
from support.kernels import LANES, guarded, holding, run
from support.programs import NodeProgram, activation, assert_close, only, random_array, same_for_threads

from cpuruntime.graph import Node, Value
from cpuruntime.ops.matmul import pack_columns, packed_bytes
from cpuruntime.ops.tiles.tile_shapes import BUSY, low_rows, tile_shapes
from cpuruntime.program.lowerings import matmul
from cpuruntime.program.tuning.tiles import Tiling

pytestmark = pytest.mark.every_isa

ROWS, COLUMNS = 4, 2
HIGH = tile_shapes()[0]
EVERYTHING = 1_000_000  # more row tiles than any case has: one chunk

ForceTile = Callable[..., None]


@pytest.fixture
def force_tile(monkeypatch: pytest.MonkeyPatch) -> ForceTile:
    """Replaces the planner's choice, so that few sizes reach every edge of one compiled tile."""

    def force(rows: int = ROWS, columns: int = COLUMNS, chunk: int = EVERYTHING) -> None:
        tiling = Tiling(rows, columns, chunk)
        monkeypatch.setattr(matmul, "rank_tilings", lambda *sizes: only(tiling))

    return force


def activated(y: np.ndarray, activation: str, arguments: tuple[float, ...]) -> np.ndarray:
    if activation == "Relu":
        return np.maximum(y, 0)
    if activation == "Gelu":
        return y * 0.5 * (1 + np.vectorize(erf)(y * sqrt(0.5)))
    if activation == "LeakyRelu":
        return np.where(y < 0, arguments[0] * y, y)
    return np.clip(y, *arguments) if activation == "Clip" else y


def fully_connected(
    x: tuple[int, ...], columns: int, *, bias: bool = True, residual: bool = False, function: str = "",
    arguments: tuple[float, ...] = (), threads: int = 1, weights: np.ndarray | None = None,
) -> NodeProgram:  # fmt: skip
    """Plans and checks one FullyConnected node."""
    w = random_array((x[-1], columns), 1) if weights is None else weights
    b, shape = random_array((columns,), 2), (*x[:-1], columns)
    arrays = [random_array(x), random_array(shape, 3)][: 1 + residual]
    inputs = [
        activation("x", x),
        Value.of("w", w),
        Value.of("b", b) if bias else None,
        activation("residual", shape) if residual else None,
    ]
    attributes: dict[str, Any] = {"activation": function, "activation_arguments": list(arguments)}
    node = Node("FullyConnected", "f", inputs, [activation("y", shape)], attributes, "cpuruntime")
    planned = NodeProgram(node, threads=threads, watched=("matmul",))
    y = arrays[0].astype(np.float64) @ w + (b if bias else 0)
    y = activated(y + arrays[1] if residual else y, function, arguments)
    assert_close(same_for_threads(planned, *arrays), y, x[-1])
    return planned


@pytest.mark.parametrize("more", range(2 * HIGH[0]))
def test_last_rows_by_lower_tiles(more: int, force_tile: ForceTile) -> None:
    force_tile(*HIGH, chunk=2)
    fully_connected((HIGH[0] + more, 9), 2 * LANES + 1, residual=True, threads=2)


@pytest.mark.parametrize("columns", [2, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("function", ["", "Gelu"])
def test_column_tiles_in_pairs(columns: int, function: str, force_tile: ForceTile) -> None:
    force_tile(1, 2)
    for less in (0, 3):
        fully_connected((2, 9), columns * LANES - less, residual=True, function=function, threads=2)


def test_lower_tiles_are_as_busy() -> None:
    rows, columns = HIGH
    low = low_rows(rows, columns)
    assert low * columns >= BUSY if low < rows else rows <= 3
    assert low_rows(1, 2) == 1


@pytest.mark.parametrize("rows", [ROWS, ROWS + 1, 2 * ROWS - 1, 2 * ROWS, 2 * ROWS + 1])
def test_rows_around_the_tile(rows: int, force_tile: ForceTile) -> None:
    force_tile()
    fully_connected((rows, 9), 2 * LANES, residual=True)


@pytest.mark.parametrize(
    "columns",
    [LANES + 1, 2 * LANES - 1, 2 * LANES, 2 * LANES + 1, 3 * LANES, 4 * LANES - 1, 4 * LANES, 5 * LANES + 3, 7 * LANES],
)
def test_columns_around_the_tile(columns: int, force_tile: ForceTile) -> None:
    force_tile()
    fully_connected((5, 9), columns, residual=True)


@pytest.mark.parametrize("inner", [1, 2, 3, 4, 5, 7, 8, 131])
def test_inner_extents_around_the_unrolled_loop(inner: int, force_tile: ForceTile) -> None:
    force_tile()
    fully_connected((5, inner), 2 * LANES + 1)


@pytest.mark.parametrize("chunk", [1, 2, EVERYTHING])
def test_chunks(chunk: int, force_tile: ForceTile) -> None:
    force_tile(chunk=chunk)
    fully_connected((19, 6), 5 * LANES, residual=True)


@pytest.mark.parametrize("columns", [1, LANES - 1, LANES, LANES + 1, 8 * LANES, 9 * LANES + 1])
def test_a_single_row(columns: int, force_tile: ForceTile) -> None:
    force_tile(rows=1, columns=1)
    fully_connected((1, 7), columns, residual=True)


@pytest.mark.parametrize("rows", [ROWS, ROWS + 1, 2 * ROWS + 1])
@pytest.mark.parametrize("columns", [LANES + 1, 2 * LANES, 3 * LANES, 4 * LANES + 1])
def test_activations_are_applied_once_where_tiles_overlap(rows: int, columns: int, force_tile: ForceTile) -> None:
    force_tile()
    fully_connected((rows, 9), columns, function="LeakyRelu", arguments=(0.3,), residual=True)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [("", ()), ("Relu", ()), ("Clip", (-1.0, 0.5)), ("Gelu", ()), ("LeakyRelu", (0.3,))],
)
@pytest.mark.parametrize("bias", [False, True])
def test_epilogues(
    residual: bool, function: str, arguments: tuple[float, ...], bias: bool, force_tile: ForceTile
) -> None:
    force_tile()
    fully_connected((6, 5), 2 * LANES + 3, bias=bias, residual=residual, function=function, arguments=arguments)


def test_leading_dimensions_are_rows(force_tile: ForceTile) -> None:
    force_tile()
    fully_connected((2, 3, 5), 2 * LANES, residual=True)


def test_weights_with_any_strides(force_tile: ForceTile) -> None:
    force_tile()
    fully_connected((4, 5), 2 * LANES + 1, weights=random_array((2 * LANES + 1, 5)).T)


def test_not_a_number_stays_in_its_row(force_tile: ForceTile) -> None:
    force_tile()
    w = random_array((5, 2 * LANES + 1), 1)
    attributes = {"activation": "Relu", "activation_arguments": []}
    inputs = [activation("x", (6, 5)), Value.of("w", w), None, None]
    node = Node("FullyConnected", "f", inputs, [activation("y", (6, w.shape[1]))], attributes, "cpuruntime")
    x = random_array((6, 5))
    x[2, 3] = np.nan
    actual = same_for_threads(NodeProgram(node, watched=("matmul",)), x)
    assert_close(actual, np.maximum(x.astype(np.float64) @ w, 0), 5)


@pytest.mark.parametrize(
    ("x", "columns"), [((1, 300), 130), ((1, 64), 16 * LANES), ((4, 33), 40), ((13, 31), 77), ((64, 65), 96)]
)
def test_the_planners_own_tiles(x: tuple[int, int], columns: int) -> None:
    one, two = (fully_connected(x, columns, threads=threads) for threads in (1, 2))
    assert one.run(random_array(x)).tobytes() == two.run(random_array(x)).tobytes()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 7), (7, 2 * LANES + 1)),
        ((2, 5, 7), (2, 7, 2 * LANES + 1)),
        ((2, 3, 5, 6), (2, 3, 6, 3 * LANES)),
        ((3, 5, 7), (7, 2 * LANES)),  # one right side for all
        ((3, 5, 7), (1, 7, 2 * LANES)),
        ((5, 7), (3, 7, 2 * LANES + 5)),  # one left side for all
        ((1, 5, 7), (3, 7, 2 * LANES)),
        ((2, 1, 5, 7), (1, 3, 7, 2 * LANES)),
        ((2, 3, 5, 7), (3, 7, 2 * LANES)),
        ((2, 3, 4, 5, 7), (3, 1, 7, 2 * LANES)),
        ((7,), (7, 2 * LANES)),
        ((7,), (3, 7, 2 * LANES)),
        ((6, 7), (7,)),
        ((2, 6, 7), (7,)),
        ((7,), (7,)),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_products_of_two_tensors(
    a: tuple[int, ...], b: tuple[int, ...], constant: bool, force_tile: ForceTile
) -> None:
    force_tile(*((1, 1) if len(a) == 1 or len(b) == 1 else ()))
    x, w = random_array(a), random_array(b, 1)
    y = x.astype(np.float64) @ w
    right = Value.of("b", w) if constant else activation("b", b)
    node = Node("MatMul", "m", [activation("a", a), right], [activation("y", y.shape)])
    planned = NodeProgram(node, watched=("matmul",))
    assert_close(same_for_threads(planned, x, *([] if constant else [w])), y, a[-1])


@pytest.mark.parametrize("columns", [LANES + 1, 2 * LANES, 2 * LANES + 1, 5 * LANES - 1])
@pytest.mark.parametrize("tile_columns", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_packing(columns: int, tile_columns: int, transposed: bool) -> None:
    batch, inner = 2, 3
    data = random_array((batch, inner, columns))
    strides = (4 * 200 * inner, 4, 4 * inner) if transposed else (4 * 500 * inner, 4 * 150, 4)
    source = holding(data, strides)
    size = packed_bytes(inner, columns, tile_columns)
    target = guarded((batch, size // 4))
    run(
        pack_columns, target, source=source.address, source_batch=strides[0], source_row=strides[1],
        source_column=strides[2], target=target.address, target_batch=size, batch=batch, inner=inner, columns=columns,
        tile_columns=tile_columns,
    )  # fmt: skip
    blocks = -(-columns // LANES)
    padded = np.zeros((batch, inner, blocks, LANES), np.float32)
    padded.reshape(batch, inner, -1)[:, :, :columns] = data
    starts = [min(first, blocks - tile_columns) for first in range(0, blocks, tile_columns)]
    tiles = np.stack([padded[:, :, start : start + tile_columns] for start in starts], axis=1)
    np.testing.assert_array_equal(target.array, tiles.reshape(batch, -1))
