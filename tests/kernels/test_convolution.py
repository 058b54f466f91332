"""Dense and grouped convolutions as programs run them, on sizes around those of the register tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases.convolution import (
    COLUMNS,
    DENSE,
    EPILOGUES,
    FIRST_LAYERS,
    GROUPED,
    GROUPED_WINDOWS,
    OF_MODELS,
    POINTWISE,
    ROWS,
    Convolution,
)
from onnx import helper
from onnx.reference import ReferenceEvaluator
from support.convolutions import FAMILIES, check, convolve, expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, activation, only, same_for_threads

from cpuruntime.graph import Node
from cpuruntime.ops.tiles.tile_shapes import UNROLL, low_rows, tile_shapes
from cpuruntime.program.convolution import direct, grouped
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.tuning.tiles import Grid, Tiling

pytestmark = pytest.mark.every_isa

EVERYTHING = 1_000_000  # more row tiles than any case has: one chunk

ForceTile = Callable[..., None]


@pytest.fixture
def force_tile(monkeypatch: pytest.MonkeyPatch) -> ForceTile:
    """Replaces the planner's choice, so that few sizes reach every edge of one compiled tile."""

    def force(rows: int = ROWS, columns: int = COLUMNS, chunk: int = EVERYTHING) -> None:
        tiling = Tiling(rows, columns, chunk)
        monkeypatch.setattr(direct, "rank_tilings", lambda *sizes: only(tiling))

        def for_group(grid: Grid, threads: int) -> tuple[Candidate[Tiling]]:
            return only(Tiling(rows, min(columns, grid.blocks), chunk))

        monkeypatch.setattr(grouped, "rank_tilings", for_group)

    return force


def named(*cases: Convolution) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@named(*DENSE, *EPILOGUES, *GROUPED_WINDOWS)
def test_cases_around_the_tile(case: Convolution, force_tile: ForceTile) -> None:
    force_tile()
    check(case)


@named(*POINTWISE)
def test_pointwise_convolution_sees_a_plane_as_one_row(case: Convolution, force_tile: ForceTile) -> None:
    height, width = case.x[2:]
    force_tile(ROWS if height * width >= ROWS else 1)
    check(case)
    if width == 4:
        for name in ("x", "y", "residual"):
            check(case, prepare=halo_around(name))


def rows_of_lower_tiles(**epilogue: Any) -> list[Convolution]:
    """Rows that a tile does not divide, so that they end with lower ones, or overlap where there are none."""
    rows, columns = tile_shapes()[0]
    low = low_rows(rows, columns)
    assert low < rows or rows <= 3
    widths = (rows, rows + 1, rows + low, 2 * rows - 1, 2 * rows, 2 * rows + 2 * low)
    return [Convolution((1, LANES + 1, 3, width), (columns + 1) * LANES, **epilogue) for width in widths]


@pytest.mark.parametrize(
    ("case", "halo", "gathered"),
    [
        (Convolution((2, LANES + 1, 7, 9), 256, (1, 1), (0, 0, 0, 0), (2, 2), residual=True), (), True),
        (Convolution((1, 2 * LANES, 8, 8), 256, (1, 1), (0, 0, 0, 0), (3, 1)), ("x",), True),
        (Convolution((1, 2 * LANES, 8, 8), 256, (1, 1), (0, 0, 0, 0), (2, 2)), ("y",), False),
        (Convolution((1, 2 * LANES, 8, 8), 256, (1, 1), (0, 0, 1, 1), (2, 2)), (), False),
        (Convolution((1, 2 * LANES, 7, 8), 256, (1, 1), (0, 0, 2, 0), (2, 2)), (), False),
        (Convolution((1, 2 * LANES, 8, 8), 248, (1, 1), (0, 0, 0, 0), (2, 2)), (), False),
    ],
    ids=["batch and residual", "rows only", "halo of the target", "pads", "a row below", "few outputs"],
)
def test_pixels_of_a_strided_pointwise_convolution_are_gathered(
    case: Convolution, halo: tuple[str, ...], gathered: bool, force_tile: ForceTile
) -> None:
    force_tile()
    planned = check(case, prepare=halo_around(*halo))
    (step,) = planned.watched
    assert step.arguments["stride_height"] == (1 if gathered else case.strides[0])


@pytest.mark.parametrize("chunk", [1, 2, EVERYTHING])
def test_rows_end_with_lower_tiles(chunk: int, force_tile: ForceTile) -> None:
    force_tile(*tile_shapes()[0], chunk)
    for case in rows_of_lower_tiles(residual=True):
        check(case)


def test_activations_of_lower_tiles(force_tile: ForceTile) -> None:
    force_tile(*tile_shapes()[0])
    for case in rows_of_lower_tiles(activation="Sigmoid"):
        actual = same_for_threads(NodeProgram(case.node(), watched=FAMILIES), *case.inputs)
        np.testing.assert_allclose(actual, 1 / (1 + np.exp(-expected(case, case.inputs))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 3, EVERYTHING])
@pytest.mark.parametrize("batch", [1, 3])
def test_chunks(chunk: int, batch: int, force_tile: ForceTile) -> None:
    force_tile(chunk=chunk)
    check(Convolution((batch, 2 * LANES, 5, 6), 5 * LANES, residual=True))


@named(*GROUPED)
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_groups(case: Convolution, columns: int, force_tile: ForceTile) -> None:
    force_tile(columns=columns)
    check(case)


@pytest.mark.parametrize("halo", [(), ("x",), ("y",)])
def test_groups_of_a_pointwise_convolution(halo: tuple[str, ...], force_tile: ForceTile) -> None:
    force_tile()
    width = 2 * LANES + 2
    case = Convolution((2, 4 * width, 3, 4), 4 * width, (1, 1), (0, 0, 0, 0), group=4, residual=True, activation="Relu")
    check(case, prepare=halo_around(*halo))


@pytest.mark.parametrize(
    ("outputs", "part", "is_whole"),
    [(2 * LANES, 1, False), (LANES + LANES // 2, 2, False), (LANES - 1, LANES, True)],
    ids=["apart", "two in a vector", "several in a vector"],
)
def test_groups_that_share_vectors_are_the_work_of_one_thread(
    outputs: int, part: int, is_whole: bool, force_tile: ForceTile
) -> None:
    force_tile(columns=1, chunk=2)
    group = 2 * LANES
    case = Convolution((1, 9 * group, 4, 9), outputs * group, group=group)
    (step,) = check(case, threads=2).watched
    blocks = [(-(-(i + 1) * outputs // LANES)) - i * outputs // LANES for i in range(part)]
    assert step.arguments["part_tiles"] == (sum(blocks) if part > 1 else 1)
    tiles = 4 * -(-9 // ROWS)
    assert (step.arguments["chunk"] >= tiles) == is_whole


def test_activations_of_groups_follow_in_a_step(force_tile: ForceTile) -> None:
    force_tile()
    case = Convolution((1, 3 * (LANES + 2), 3, 5), 3 * (LANES + 1), group=3, activation="Sigmoid")
    actual = same_for_threads(NodeProgram(case.node(), watched=FAMILIES), *case.inputs)
    y = expected(case, case.inputs)
    np.testing.assert_allclose(actual, 1 / (1 + np.exp(-y)), rtol=1e-4, atol=1e-5)


def test_every_tile_computes_the_same_bits_in_groups(force_tile: ForceTile) -> None:
    case = Convolution((1, 3 * (LANES + 2), 3, 9), 3 * (3 * LANES + 2), group=3)
    results = set()
    for rows, columns in ((1, 1), (2, 2), (4, 2), (8, 3)):
        force_tile(rows, columns)
        results.add(check(case).run(*case.inputs).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("width", [LANES // 4, LANES // 2, LANES - 1, LANES + 2])
def test_an_infinity_stays_in_its_group(width: int, force_tile: ForceTile) -> None:
    force_tile()
    case = Convolution((1, 4 * width, 4, 5), 4 * width, (1, 1), (0, 0, 0, 0), group=4)
    x = case.inputs[0]
    x[0, width, 1, 2] = np.inf
    actual = same_for_threads(NodeProgram(case.node(), watched=FAMILIES), x)
    places = np.zeros(actual.shape, bool)
    places[0, width : 2 * width, 1, 2] = True
    np.testing.assert_array_equal(np.isfinite(actual), ~places)
    assert not np.isnan(actual).any()


def test_one_array_of_weights_for_two_numbers_of_groups() -> None:
    weights = WeightStore()
    for inputs, group in ((2 * LANES, 1), (4 * LANES, 2)):
        case = Convolution((1, inputs, 3, 4), 2 * LANES, group=group)
        planned = NodeProgram(case.node(), watched=FAMILIES, weights=weights)
        np.testing.assert_allclose(planned.run(*case.inputs), expected(case, case.inputs), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", sorted({5, 8, 11, 14, 24, LANES + 1, 3 * LANES - 5}))
def test_channels_that_fill_no_block(channels: int, kernel: int, force_tile: ForceTile) -> None:
    force_tile()
    case = Convolution((2, channels, 5, 11), 2 * LANES + 1, (kernel, kernel), (kernel // 2,) * 4)
    (step,) = check(case, threads=2).watched
    assert step.arguments["left_out"] == -channels % LANES // UNROLL


@named(*FIRST_LAYERS)
def test_first_layers_read_pixels(case: Convolution, force_tile: ForceTile) -> None:
    force_tile()
    inputs = case.x[1]
    assert check(case).kernels == [
        f"convolution_f32_{LANES}_{ROWS}x{COLUMNS}_u{inputs}_s{4 * inputs * case.strides[1]}"
    ]


def test_activations_of_tiles_that_overlap(force_tile: ForceTile) -> None:
    force_tile()
    sizes = ((1, 2 * LANES, 4, 5), 2 * LANES), ((2, 3 * LANES, 5, 7), 3 * LANES), ((1, 3, 6, 9), 2 * LANES)
    for x, channels in sizes:
        planned = check(Convolution(x, channels, activation="LeakyRelu", arguments=(-2.0,)), threads=3)
        assert all(name.endswith("_LeakyRelu") for name in planned.kernels)


def test_not_a_number_and_infinity_pass_through(force_tile: ForceTile) -> None:
    force_tile()
    case = Convolution((1, 2 * LANES, 6, 7), 2 * LANES, activation="Relu")
    x = case.inputs[0]
    x[0, 3, 1, 2], x[0, 0, 4, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        wanted = expected(case, [x])
    actual = same_for_threads(NodeProgram(case.node(), watched=FAMILIES), x)
    assert np.isnan(wanted).sum() >= 9 * case.channels
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("names", [("y",), ("residual",), ("x", "y", "residual")])
def test_halos_of_other_readers_are_left_alone(names: tuple[str, ...], force_tile: ForceTile) -> None:
    force_tile()
    check(Convolution((2, 2 * LANES, 3, 5), 2 * LANES, residual=True), prepare=halo_around(*names))


def test_result_is_written_into_a_concatenation(force_tile: ForceTile) -> None:
    force_tile()

    def prepare(planner: Planner, node: Node) -> None:
        whole = activation("whole", (3, 6 * LANES, 3, 5))
        planner.layouts.slices[node.outputs[0]] = (whole, 2 * LANES)
        planner.layouts.halos[whole] = (1, 1)

    check(Convolution((3, 2 * LANES, 3, 5), 3 * LANES), prepare=prepare)


@named(*OF_MODELS)
def test_the_planners_own_tiles(case: Convolution) -> None:
    one, two = (check(case, threads=threads) for threads in (1, 2))
    assert one.run(*case.inputs).tobytes() == two.run(*case.inputs).tobytes()


def test_the_expectation_is_onnx() -> None:
    case = Convolution((2, 6, 7, 9), 9, (3, 2), (1, 0, 2, 3), (2, 1), (1, 2), group=3, bias=False)
    names = ("strides", "pads", "dilations", "group")
    attributes = {name: getattr(case, name) for name in names}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    values = [helper.make_tensor_value_info(name, 1, None) for name in ("x", "w", "y")]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (y,) = ReferenceEvaluator(model).run(None, {"x": case.inputs[0], "w": case.weights})
    np.testing.assert_allclose(convolve(case, case.inputs[0]), y, rtol=1e-4, atol=1e-4)
