"""Winograd convolutions as programs run them, on sizes around those of their tiles and of the register tiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.convolutions import Case, check, expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, activation, same_for_threads

from cpuruntime.graph.graph import Node
from cpuruntime.program import lower_convolution
from cpuruntime.program.planner import Planner
from cpuruntime.program.winograd_choice import WinogradTiling

pytestmark = pytest.mark.every_isa

THREADS = 3  # planned for: each needs scratch memory of its own

ForceTiling = Callable[..., None]


@pytest.fixture
def force_tiling(monkeypatch: pytest.MonkeyPatch) -> ForceTiling:
    """Replaces the choice by output tiles of m x m and register tiles of rows x columns, `turns` row tiles a group."""

    def force(m: int, rows: int = 2, columns: int = 2, turns: int = 1) -> None:
        def choose(
            batch: int, in_blocks: int, out_blocks: int, height: int, width: int, threads: int
        ) -> WinogradTiling:
            tiles_x, tiles_y = -(-width // m), -(-height // m)
            tile_rows = min(rows, tiles_x * tiles_y)
            tile_columns = min(columns, out_blocks)
            group = min(turns, tiles_x * tiles_y // tile_rows) * tile_rows
            return WinogradTiling(m, tile_rows, tile_columns, group, tiles_x, tiles_y)

        monkeypatch.setattr(lower_convolution, "choose_winograd", choose)

    return force


def check_winograd(case: Case, prepare: Callable[[Planner, Node], None] | None = None) -> None:
    check(case, threads=THREADS, prepare=prepare, winograd=True)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (4, 4), (3, 8), (5, 3), (9, 7), (8, 8)])
def test_extents_around_the_tile(m: int, shape: tuple[int, int], force_tiling: ForceTiling) -> None:
    force_tiling(m)
    check_winograd(Case((2, 2 * LANES, *shape), 2 * LANES))


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("turns", [1, 2, 3, 100])
def test_groups_of_tiles(m: int, turns: int, force_tiling: ForceTiling) -> None:
    force_tiling(m, turns=turns)
    check_winograd(Case((2, 2 * LANES, 9, 11), 3 * LANES, residual=True))


@pytest.mark.parametrize(
    ("inputs", "channels"), [(5, LANES + 3), (2 * LANES + 1, 3 * LANES - 1), (3 * LANES, 5 * LANES)]
)
def test_channels_around_the_vector(inputs: int, channels: int, force_tiling: ForceTiling) -> None:
    force_tiling(4)
    check_winograd(Case((1, inputs, 6, 6), channels))


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 2, 1, 0), (2, 2, 2, 2), (5, 4, 6, 3)])
def test_paddings(m: int, pads: tuple[int, ...], force_tiling: ForceTiling) -> None:
    force_tiling(m)
    check_winograd(Case((1, 2 * LANES, 5, 6), 2 * LANES, pads=pads))


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("function", "arguments"), [("", ()), ("Relu", ()), ("Clip", (-1.0, 0.5))])
@pytest.mark.parametrize("bias", [False, True])
def test_epilogues(
    m: int, residual: bool, function: str, arguments: tuple[float, ...], bias: bool, force_tiling: ForceTiling
) -> None:
    force_tiling(m)
    case = Case((1, 2 * LANES, 5, 7), 2 * LANES, bias=bias, residual=residual, activation=function, arguments=arguments)
    check_winograd(case)


@pytest.mark.parametrize("names", [("y",), ("residual",), ("x", "y", "residual")])
def test_halos_of_other_readers_are_left_alone(names: tuple[str, ...], force_tiling: ForceTiling) -> None:
    force_tiling(4)
    check_winograd(Case((2, 2 * LANES, 5, 6), 2 * LANES, residual=True), halo_around(*names, right=7))


def test_result_is_written_into_a_concatenation(force_tiling: ForceTiling) -> None:
    force_tiling(4)

    def prepare(planner: Planner, node: Node) -> None:
        planner.layouts.slices[node.outputs[0]] = (activation("whole", (3, 6 * LANES, 5, 6)), 2 * LANES)

    check_winograd(Case((3, 2 * LANES, 5, 6), 3 * LANES), prepare)


@pytest.mark.parametrize("m", [2, 4])
def test_not_a_number_reaches_every_pixel_it_should(m: int, force_tiling: ForceTiling) -> None:
    force_tiling(m)
    case = Case((1, 2 * LANES, 9, 9), 2 * LANES, activation="Relu")
    x = case.inputs[0]
    x[0, 3, 4, 5] = np.nan
    planned = NodeProgram(case.node(), threads=THREADS, watched=["winograd"], exact=False)
    actual, wanted = same_for_threads(planned, x), expected(case, [x])
    assert np.isnan(actual[np.isnan(wanted)]).all()
    elsewhere = np.isfinite(actual)
    assert elsewhere.mean() > 0.3
    np.testing.assert_allclose(actual[elsewhere], wanted[elsewhere], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extent", [7, 14, 28])
def test_the_planners_own_tiles(extent: int) -> None:
    check_winograd(Case((1, 4 * LANES, extent, extent), 4 * LANES, activation="Relu"))
