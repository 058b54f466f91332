"""Dense and grouped convolutions as programs run them, on sizes around those of the register tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from support.convolutions import FAMILIES, Case, check, convolve, expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, activation, only, same_for_threads

from cpuruntime.graph import Node
from cpuruntime.program.convolution import direct, grouped
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.tuning.candidate import Candidate
from cpuruntime.program.tuning.tiles import Tiling

pytestmark = pytest.mark.every_isa

ROWS, COLUMNS = 4, 2
EVERYTHING = 1_000_000  # more row tiles than any case has: one chunk

ForceTile = Callable[..., None]


@pytest.fixture
def force_tile(monkeypatch: pytest.MonkeyPatch) -> ForceTile:
    """Replaces the planner's choice, so that few sizes reach every edge of one compiled tile."""

    def force(rows: int = ROWS, columns: int = COLUMNS, chunk: int = EVERYTHING) -> None:
        tiling = Tiling(rows, columns, chunk)
        monkeypatch.setattr(direct, "rank_tilings", lambda *sizes: only(tiling))

        def for_group(lines: int, pixels: int, vectors: int, *sizes: int) -> list[Candidate[Tiling]]:
            return only(Tiling(rows, min(columns, vectors), chunk))

        monkeypatch.setattr(grouped, "rank_tilings", for_group)

    return force


@pytest.mark.parametrize("width", [ROWS, ROWS + 1, 2 * ROWS - 1, 2 * ROWS, 2 * ROWS + 1])
def test_widths_around_the_tile(width: int, force_tile: ForceTile) -> None:
    force_tile()
    check(Case((2, 2 * LANES, 3, width), 2 * LANES))


@pytest.mark.parametrize(
    "channels", [LANES + 1, 2 * LANES - 1, 2 * LANES, 2 * LANES + 1, 4 * LANES, 4 * LANES + 3, 5 * LANES]
)
def test_output_channels_around_the_tile(channels: int, force_tile: ForceTile) -> None:
    force_tile()
    check(Case((1, 2 * LANES, 3, 5), channels, residual=True))


@pytest.mark.parametrize("channels", [5, LANES - 1, LANES, LANES + 1, 3 * LANES, 3 * LANES + 2])
def test_input_channels_around_the_vector(channels: int, force_tile: ForceTile) -> None:
    force_tile()
    check(Case((2, channels, 3, 5), 2 * LANES))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (2, 2), (2, 3), (5, 4), (1, 9)])
def test_pointwise_convolution_sees_a_plane_as_one_row(shape: tuple[int, int], force_tile: ForceTile) -> None:
    rows = ROWS if shape[0] * shape[1] >= ROWS else 1
    force_tile(rows)
    case = Case((3, LANES + 2, *shape), 3 * LANES, (1, 1), (0, 0, 0, 0), residual=True)
    check(case)
    if shape[1] == 4:
        for name in ("x", "y", "residual"):
            check(case, prepare=halo_around(name))


@pytest.mark.parametrize("chunk", [1, 2, 3, EVERYTHING])
@pytest.mark.parametrize("batch", [1, 3])
def test_chunks(chunk: int, batch: int, force_tile: ForceTile) -> None:
    force_tile(chunk=chunk)
    check(Case((batch, 2 * LANES, 5, 6), 5 * LANES, residual=True))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "pads"), [((1, 1), (0, 0, 0, 0)), ((3, 3), (0, 2, 1, 0))])
def test_strides(stride: int, kernel: tuple[int, int], pads: tuple[int, ...], force_tile: ForceTile) -> None:
    force_tile()
    check(Case((1, 2 * LANES, 7, 18), 2 * LANES, kernel, pads, (stride, stride)))


def test_strides_of_height_and_width_differ(force_tile: ForceTile) -> None:
    force_tile()
    check(Case((1, 2 * LANES, 7, 9), 2 * LANES, (3, 3), (1, 1, 1, 1), (3, 2)))


@pytest.mark.parametrize("kernel", [(1, 5), (5, 1), (2, 3), (4, 4), (7, 7)])
def test_kernel_shapes(kernel: tuple[int, int], force_tile: ForceTile) -> None:
    force_tile()
    check(Case((1, 2 * LANES, 8, 9), 2 * LANES, kernel, (1, 2, 1, 0)))


@pytest.mark.parametrize(
    "pads",
    [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 3, 0, 0),
        (0, 0, 2, 0),
        (0, 0, 0, 3),
        (4, 5, 6, 7),  # whole rows of the result see no pixel
    ],
)
def test_paddings(pads: tuple[int, ...], force_tile: ForceTile) -> None:
    force_tile()
    check(Case((2, 2 * LANES, 3, 6), 2 * LANES, pads=pads))


@pytest.mark.parametrize(
    ("dilations", "pads"),
    [((2, 1), (1, 1, 1, 1)), ((1, 3), (0, 2, 0, 4)), ((3, 2), (5, 3, 2, 3)), ((9, 1), (9, 1, 9, 1))],
)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_dilations(
    dilations: tuple[int, int], pads: tuple[int, ...], strides: tuple[int, int], force_tile: ForceTile
) -> None:
    force_tile()
    check(Case((1, 2 * LANES, 7, 11), 2 * LANES, (3, 3), pads, strides, dilations))


@pytest.mark.parametrize(
    ("inputs", "channels", "group"),
    [
        (2 * LANES, 4 * LANES, 2),  # whole blocks
        (2 * LANES, 2 * LANES, 4),  # half blocks
        (LANES + LANES // 2, 3 * LANES, 3),
        (15, 5 * (LANES // 2), 5),
        (34, 51, 17),
        (6 * (LANES + 1), 6 * (LANES - 1), 6),
        (LANES, 3 * LANES, LANES),  # three results of each channel
        (10, 4 * LANES, 2),  # more results in a group than fit a tile
        (4 * (2 * LANES + 2), 4 * (2 * LANES + 2), 4),  # neither begins nor ends with a vector
        (4 * (LANES + 4), 2 * (2 * LANES + 1), 2),
    ],
)
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_groups(inputs: int, channels: int, group: int, columns: int, force_tile: ForceTile) -> None:
    force_tile(columns=columns)
    check(Case((2, inputs, 3, 5), channels, group=group))


@pytest.mark.parametrize("halo", [(), ("x",), ("y",)])
def test_groups_of_a_pointwise_convolution(halo: tuple[str, ...], force_tile: ForceTile) -> None:
    force_tile()
    width = 2 * LANES + 2
    case = Case((2, 4 * width, 3, 4), 4 * width, (1, 1), (0, 0, 0, 0), group=4, residual=True, activation="Relu")
    check(case, prepare=halo_around(*halo))


def test_activations_of_groups_follow_in_a_step(force_tile: ForceTile) -> None:
    force_tile()
    case = Case((1, 3 * (LANES + 2), 3, 5), 3 * (LANES + 1), group=3, activation="Sigmoid")
    actual = same_for_threads(NodeProgram(case.node(), watched=FAMILIES), *case.inputs)
    y = expected(case, case.inputs)
    np.testing.assert_allclose(actual, 1 / (1 + np.exp(-y)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", [1, 2, LANES + 1, 3 * LANES])
def test_groups_with_strides_and_dilations(inputs: int, force_tile: ForceTile) -> None:
    force_tile()
    case = Case((1, 3 * inputs, 9, 13), 3 * (LANES + 3), (3, 2), (2, 1, 0, 3), (2, 3), (1, 2), group=3)
    check(case)


def test_every_tile_computes_the_same_bits_in_groups(force_tile: ForceTile) -> None:
    case = Case((1, 3 * (LANES + 2), 3, 9), 3 * (3 * LANES + 2), group=3)
    results = set()
    for rows, columns in ((1, 1), (2, 2), (4, 2), (8, 3)):
        force_tile(rows, columns)
        results.add(check(case).run(*case.inputs).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("width", [LANES // 4, LANES // 2, LANES - 1, LANES + 2])
def test_an_infinity_stays_in_its_group(width: int, force_tile: ForceTile) -> None:
    force_tile()
    case = Case((1, 4 * width, 4, 5), 4 * width, (1, 1), (0, 0, 0, 0), group=4)
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
        case = Case((1, inputs, 3, 4), 2 * LANES, group=group)
        planned = NodeProgram(case.node(), watched=FAMILIES, weights=weights)
        np.testing.assert_allclose(planned.run(*case.inputs), expected(case, case.inputs), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "kernel", "pads", "strides", "dilations"),
    [
        *((inputs, (3, 3), (1, 1, 1, 1), (1, 1), (1, 1)) for inputs in (1, 2, 3, 4)),
        *((inputs, (3, 3), (0, 2, 2, 1), (1, 1), (2, 2)) for inputs in (1, 2, 3, 4)),
        (3, (7, 5), (3, 1, 0, 3), (2, 2), (1, 1)),
        (3, (11, 11), (5, 6, 7, 8), (2, 2), (1, 1)),
        (3, (3, 3), (2, 2, 2, 2), (3, 2), (2, 2)),
    ],
)
def test_first_layers_read_pixels(
    inputs: int, kernel: tuple[int, int], pads: tuple[int, ...], strides: tuple[int, int],
    dilations: tuple[int, int], force_tile: ForceTile,
) -> None:  # fmt: skip
    force_tile()
    case = Case((2, inputs, 9, 11), 3 * LANES - 1, kernel, pads, strides, dilations, activation="Relu")
    planned = check(case)
    assert planned.kernels == [f"convolution_f32_{LANES}_{ROWS}x{COLUMNS}_u{inputs}_s{4 * inputs * strides[1]}"]


def test_first_layer_with_a_residual(force_tile: ForceTile) -> None:
    force_tile()
    check(Case((1, 3, 5, 6), 2 * LANES, residual=True))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("activation", "arguments"),
    [("", ()), ("Relu", ()), ("Clip", (-1.0, 0.5)), ("Clip", (-1.0, float("inf"))), ("LeakyRelu", (0.25,))],
)
@pytest.mark.parametrize("bias", [False, True])
def test_epilogues(
    residual: bool, activation: str, arguments: tuple[float, ...], bias: bool, force_tile: ForceTile
) -> None:
    force_tile()
    inner, outer = (1, 2 * LANES, 4, 5), 2 * LANES
    check(Case(inner, outer, bias=bias, residual=residual, activation=activation, arguments=arguments))


def test_activations_of_tiles_that_overlap(force_tile: ForceTile) -> None:
    force_tile()
    sizes = ((1, 2 * LANES, 4, 5), 2 * LANES), ((2, 3 * LANES, 5, 7), 3 * LANES), ((1, 3, 6, 9), 2 * LANES)
    for x, channels in sizes:
        planned = check(Case(x, channels, activation="LeakyRelu", arguments=(-2.0,)), threads=3)
        assert all(name.endswith("_LeakyRelu") for name in planned.kernels)


def test_not_a_number_and_infinity_pass_through(force_tile: ForceTile) -> None:
    force_tile()
    case = Case((1, 2 * LANES, 6, 7), 2 * LANES, activation="Relu")
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
    check(Case((2, 2 * LANES, 3, 5), 2 * LANES, residual=True), prepare=halo_around(*names))


def test_result_is_written_into_a_concatenation(force_tile: ForceTile) -> None:
    force_tile()

    def prepare(planner: Planner, node: Node) -> None:
        whole = activation("whole", (3, 6 * LANES, 3, 5))
        planner.layouts.slices[node.outputs[0]] = (whole, 2 * LANES)
        planner.layouts.halos[whole] = (1, 1)

    check(Case((3, 2 * LANES, 3, 5), 3 * LANES), prepare=prepare)


@pytest.mark.parametrize("pads", [(1, 1), (0, 2), (2, 0)])
@pytest.mark.parametrize("inputs", [3, LANES + 1])
def test_signals(inputs: int, pads: tuple[int, int], force_tile: ForceTile) -> None:
    force_tile()
    check(Case((2, inputs, 19), 2 * LANES, (3,), pads, (2,), (1,)))


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 2 * LANES, 1, 1), LANES),
        Case((1, 4 * LANES, 1, 1), 8 * LANES, (1, 1), (0, 0, 0, 0)),
        Case((1, 3, 32, 32), 64, (7, 7), (3, 3, 3, 3), (2, 2), activation="Relu"),
        Case((1, 64, 14, 14), 128, (1, 1), (0, 0, 0, 0), residual=True, activation="Relu"),
        Case((1, 64, 28, 28), 96, (3, 3), (1, 1, 1, 1), (2, 2)),
        Case((2, 48, 7, 7), 160),
        Case((1, 130, 13, 13), 70, group=2),
    ],
    ids=lambda case: f"{'x'.join(map(str, case.x))}-{case.channels}",
)
def test_the_planners_own_tiles(case: Case) -> None:
    one, two = (check(case, threads=threads) for threads in (1, 2))
    assert one.run(*case.inputs).tobytes() == two.run(*case.inputs).tobytes()


def test_the_expectation_is_onnx() -> None:
    case = Case((2, 6, 7, 9), 9, (3, 2), (1, 0, 2, 3), (2, 1), (1, 2), group=3, bias=False)
    names = ("strides", "pads", "dilations", "group")
    attributes = {name: getattr(case, name) for name in names}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    values = [helper.make_tensor_value_info(name, 1, None) for name in ("x", "w", "y")]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (y,) = ReferenceEvaluator(model).run(None, {"x": case.inputs[0], "w": case.weights})
    np.testing.assert_allclose(convolve(case, case.inputs[0]), y, rtol=1e-4, atol=1e-4)
