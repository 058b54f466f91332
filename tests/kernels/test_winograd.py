"""Winograd convolutions as programs run them, on sizes around those of their tiles and of the register tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cases.convolution import Convolution
from support.convolutions import check, expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, activation, only, same_for_threads

from cpuruntime.graph import Node
from cpuruntime.ops.winograd_methods import Algorithm, Method
from cpuruntime.program.convolution import direct, winograd
from cpuruntime.program.convolution.winograd_choice import WinogradSizes, WinogradTiling
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.plan.planner import Planner

pytestmark = pytest.mark.every_isa

THREADS = 3  # planned for: each needs scratch memory of its own

ForceTiling = Callable[..., None]

SMALL, LARGE = (Method(Algorithm(m, 3), Algorithm(m, 3)) for m in (2, 4))
WHOLE_IMAGE = [SMALL, Method(Algorithm(3, 3), Algorithm(3, 3)), LARGE, Method(Algorithm(2, 5), Algorithm(2, 5))]
STRIDED = [Method(Algorithm(m, 3, 2), Algorithm(m, 3, 2)) for m in (2, 3)]
ROUNDED = [
    Method(Algorithm(2, 3), Algorithm(2, 3), rounds=True),
    Method(Algorithm(2, 3, 2), Algorithm(2, 3, 2), rounds=True),
    Method(Algorithm(1, 1), Algorithm(2, 3), rounds=True),
]
ONE_AXIS = [
    Method(Algorithm(1, 1), Algorithm(4, 3)),
    Method(Algorithm(4, 3), Algorithm(1, 1)),
    Method(Algorithm(1, 1), Algorithm(3, 7)),
    Method(Algorithm(1, 1), Algorithm(3, 3, 2)),
]
SHAPES = [(1, 1), (1, 5), (2, 2), (4, 4), (3, 8), (5, 3), (9, 7), (8, 8)]


@pytest.fixture
def force_tiling(monkeypatch: pytest.MonkeyPatch) -> ForceTiling:
    """Replaces the choice by a method and register tiles of rows x columns, `turns` row tiles a group."""

    def force(method: Method, rows: int = 2, columns: int = 2, turns: int = 1) -> None:
        def rank(layer: WinogradSizes, method: Method, threads: int) -> tuple[Candidate[WinogradTiling]]:
            tiles_x, tiles_y = -(-layer.width // method.horizontal.outputs), -(-layer.height // method.vertical.outputs)
            tiles = layer.batch * tiles_x * tiles_y
            tile_rows = min(rows, tiles)
            group = min(turns * tile_rows, tiles)
            return only(WinogradTiling(method, tile_rows, min(columns, layer.out_blocks), group, tiles_x, tiles_y))

        monkeypatch.setattr(direct, "rank_methods", lambda layer, rounds: only(method))
        monkeypatch.setattr(winograd, "fit_winograd", rank)

    return force


def kernel_of(method: Method) -> tuple[int, int]:
    return method.vertical.taps, method.horizontal.taps


def strides_of(method: Method) -> tuple[int, int]:
    return method.vertical.stride, method.horizontal.stride


def check_winograd(case: Convolution, prepare: Callable[[Planner, Node], None] | None = None) -> None:
    check(case, threads=THREADS, prepare=prepare, winograd=True)


@pytest.mark.parametrize("method", WHOLE_IMAGE, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_extents_around_the_tile(method: Method, shape: tuple[int, int], force_tiling: ForceTiling) -> None:
    force_tiling(method)
    pads = (method.vertical.taps // 2,) * 4
    check_winograd(Convolution((2, 2 * LANES, *shape), 2 * LANES, kernel_of(method), pads))


@pytest.mark.parametrize("method", STRIDED, ids=str)
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 1, 1)])
@pytest.mark.parametrize("shape", [(2, 2), (5, 6), (7, 13), (12, 9)])
def test_strides(method: Method, pads: tuple[int, ...], shape: tuple[int, int], force_tiling: ForceTiling) -> None:
    force_tiling(method)
    case = Convolution((2, 2 * LANES, *shape), 2 * LANES, kernel_of(method), pads, strides_of(method), residual=True)
    check_winograd(case)


@pytest.mark.parametrize("method", ONE_AXIS, ids=str)
@pytest.mark.parametrize("shape", [(1, 9), (8, 8), (13, 1), (7, 17)])
def test_kernels_along_one_axis(method: Method, shape: tuple[int, int], force_tiling: ForceTiling) -> None:
    force_tiling(method)
    pads = (method.vertical.taps // 2, method.horizontal.taps // 2) * 2
    check_winograd(Convolution((2, 2 * LANES, *shape), 2 * LANES, kernel_of(method), pads, strides_of(method)))


class SmallIntegers(Convolution):
    """One of numbers whose transforms bf16 represents."""

    @property
    def inputs(self) -> list[np.ndarray]:
        return [_small(array) for array in super().inputs]

    @property
    def weights(self) -> np.ndarray:
        return _small(super().weights)


def _small(array: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(3 * array), -4, 4)


@pytest.mark.parametrize("method", ROUNDED, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 9), (13, 8)])
@pytest.mark.parametrize(("rows", "columns", "turns"), [(1, 1, 3), (2, 2, 1), (4, 2, 2)])
def test_products_of_bf16_numbers_are_exact_where_nothing_is_rounded(
    method: Method, shape: tuple[int, int], rows: int, columns: int, turns: int, force_tiling: ForceTiling
) -> None:
    force_tiling(method, rows, columns, turns)
    pads = (method.vertical.taps // 2, method.horizontal.taps // 2) * 2
    sizes = (2, 2 * LANES + 3, *shape), 3 * LANES, kernel_of(method), pads, strides_of(method)
    case = SmallIntegers(*sizes, bias=False)
    planned = NodeProgram(case.node(), threads=THREADS, watched=["winograd"], exact=False)
    np.testing.assert_array_equal(same_for_threads(planned, *case.inputs), expected(case, case.inputs))


@pytest.mark.parametrize("method", ROUNDED, ids=str)
def test_rounding_after_the_transforms_loses_little_more_than_before(
    method: Method, force_tiling: ForceTiling
) -> None:
    force_tiling(method)
    pads = (method.vertical.taps // 2, method.horizontal.taps // 2) * 2
    case = Convolution((1, 8 * LANES, 14, 14), 2 * LANES, kernel_of(method), pads, strides_of(method), bias=False)
    planned = NodeProgram(case.node(), threads=THREADS, watched=["winograd"], exact=False)
    wanted = expected(case, case.inputs)
    lost = np.linalg.norm(same_for_threads(planned, *case.inputs) - wanted) / np.linalg.norm(wanted)
    assert 5e-4 < lost < 5e-3  # of rounding before: 2.4e-3


@pytest.mark.parametrize("length", [3, 4, 17])
def test_signals(length: int, force_tiling: ForceTiling) -> None:
    force_tiling(Method(Algorithm(1, 1), Algorithm(4, 3)))
    check_winograd(Convolution((2, 2 * LANES, length), 2 * LANES, (3,), (1, 1), (1,), (1,)))


@pytest.mark.parametrize(
    ("group", "inputs", "channels"),
    [
        (2, 2 * LANES, 4 * LANES),
        (3, 6 * LANES, 3 * LANES),
        (8, 6 * LANES, 6 * LANES),  # four groups in three vectors
        (4, 3 * LANES, 6 * LANES),
    ],
)
@pytest.mark.parametrize("method", [LARGE, WHOLE_IMAGE[-1]], ids=str)
def test_groups_of_channels(method: Method, group: int, inputs: int, channels: int, force_tiling: ForceTiling) -> None:
    force_tiling(method)
    pads = (method.vertical.taps // 2,) * 4
    check_winograd(Convolution((2, inputs, 9, 6), channels, kernel_of(method), pads, group=group))


@pytest.mark.parametrize("method", [SMALL, LARGE], ids=str)
@pytest.mark.parametrize("turns", [1, 2, 3, 100])
def test_groups_of_tiles(method: Method, turns: int, force_tiling: ForceTiling) -> None:
    force_tiling(method, turns=turns)
    check_winograd(Convolution((2, 2 * LANES, 9, 11), 3 * LANES, residual=True))


@pytest.mark.parametrize(
    ("inputs", "channels"), [(5, LANES + 3), (2 * LANES + 1, 3 * LANES - 1), (3 * LANES, 5 * LANES)]
)
def test_channels_around_the_vector(inputs: int, channels: int, force_tiling: ForceTiling) -> None:
    force_tiling(LARGE)
    check_winograd(Convolution((1, inputs, 6, 6), channels))


@pytest.mark.parametrize("method", [SMALL, LARGE], ids=str)
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 2, 1, 0), (2, 2, 2, 2), (5, 4, 6, 3)])
def test_paddings(method: Method, pads: tuple[int, ...], force_tiling: ForceTiling) -> None:
    force_tiling(method)
    check_winograd(Convolution((1, 2 * LANES, 5, 6), 2 * LANES, pads=pads))


@pytest.mark.parametrize("method", [SMALL, LARGE], ids=str)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments"), [("", ()), ("Relu", ()), ("Clip", (-1.0, 0.5)), ("LeakyRelu", (-2.0,))]
)
@pytest.mark.parametrize("bias", [False, True])
def test_epilogues(
    method: Method, residual: bool, function: str, arguments: tuple[float, ...], bias: bool, force_tiling: ForceTiling
) -> None:
    force_tiling(method)
    case = Convolution(
        (1, 2 * LANES, 5, 7), 2 * LANES, bias=bias, residual=residual, activation=function, arguments=arguments
    )
    check_winograd(case)


@pytest.mark.parametrize("names", [("y",), ("residual",), ("x", "y", "residual")])
def test_halos_of_other_readers_are_left_alone(names: tuple[str, ...], force_tiling: ForceTiling) -> None:
    force_tiling(LARGE)
    check_winograd(Convolution((2, 2 * LANES, 5, 6), 2 * LANES, residual=True), halo_around(*names, right=7))


def test_result_is_written_into_a_concatenation(force_tiling: ForceTiling) -> None:
    force_tiling(LARGE)

    def prepare(planner: Planner, node: Node) -> None:
        planner.layouts.slices[node.outputs[0]] = (activation("whole", (3, 6 * LANES, 5, 6)), 2 * LANES)

    check_winograd(Convolution((3, 2 * LANES, 5, 6), 3 * LANES), prepare)


@pytest.mark.parametrize("method", [SMALL, LARGE], ids=str)
def test_not_a_number_reaches_every_pixel_it_should(method: Method, force_tiling: ForceTiling) -> None:
    force_tiling(method)
    case = Convolution((1, 2 * LANES, 9, 9), 2 * LANES, activation="Relu")
    x = case.inputs[0]
    x[0, 3, 4, 5] = np.nan
    planned = NodeProgram(case.node(), threads=THREADS, watched=["winograd"], exact=False)
    actual, wanted = same_for_threads(planned, x), expected(case, [x])
    assert np.isnan(actual[np.isnan(wanted)]).all()
    elsewhere = np.isfinite(actual)
    assert elsewhere.mean() > 0.3
    np.testing.assert_allclose(actual[elsewhere], wanted[elsewhere], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extent", [13, 14, 28])
def test_the_planners_own_tiles(extent: int) -> None:
    check_winograd(Convolution((1, 4 * LANES, extent, extent), 4 * LANES, activation="Relu"))
