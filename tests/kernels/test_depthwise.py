"""Depthwise convolutions as programs run them, on sizes around those of the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from cases.convolution import Convolution
from cases.depthwise import NARROW_GROUPS, NARROW_WINDOWS, OTHERS, RUNS, WIDTHS, depthwise
from support.convolutions import FAMILIES, check, expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, same_for_threads

from cpuruntime.ops.tiles.tile_shapes import lane_rows
from cpuruntime.program.convolution import depthwise as lowering
from cpuruntime.program.convolution.depthwise import choose_rows

pytestmark = pytest.mark.every_isa


def named(*cases: Convolution) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@named(*NARROW_WINDOWS, *OTHERS)
def test_cases(case: Convolution) -> None:
    check(case)


@named(*WIDTHS)
def test_widths_around_the_tiles(case: Convolution) -> None:
    assert check(case).kernels == [f"depthwise_f32_{LANES}_{choose_rows(case.x[3], 3)}_k3_s1"]


@named(*RUNS)
def test_runs_of_kernel_columns(case: Convolution) -> None:
    kernel, stride = case.kernel[1], case.strides[1]
    taps = {8: 4, 9: 3, 11: 1}.get(kernel, kernel)
    form = f"_k{taps}_s{stride}" if stride < 3 and taps > 1 else "_k1"
    assert check(case).kernels[0].endswith(form)


@named(*NARROW_GROUPS)
def test_narrow_groups(case: Convolution) -> None:
    inputs, outputs = case.x[1] // case.group, case.channels // case.group
    expected_name = f"depthwise_f32_{LANES}_{choose_rows(9, 3, True)}_k3_s1_{inputs}to{outputs}"
    assert check(case).kernels == [expected_name]


@pytest.mark.parametrize("kernel", [3, 7])
def test_every_tile_computes_the_same_bits(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = depthwise((1, LANES, 7, 29), (kernel, kernel), (1, kernel // 2, 1, kernel // 2), residual=True)
    results = set()
    for rows in lane_rows(kernel):
        monkeypatch.setattr(lowering, "choose_rows", lambda *sizes, rows=rows: rows)
        results.add(check(case).run(*case.inputs).tobytes())
    assert len(results) == 1


def test_activations_are_applied_once_where_tiles_overlap() -> None:
    case = Convolution((2, LANES + 1, 3, 17), LANES + 1, group=LANES + 1, activation="LeakyRelu", arguments=(-2.0,))
    (name,) = check(case).kernels
    assert name.endswith("_LeakyRelu")


def test_not_a_number_passes_through() -> None:
    case = depthwise((1, LANES, 6, 7), activation="Relu")
    x = case.inputs[0]
    x[0, 3, 1, 2] = np.nan
    actual = same_for_threads(NodeProgram(case.node(), watched=FAMILIES), x)
    assert np.isnan(actual).sum() == 9
    np.testing.assert_allclose(actual, expected(case, [x]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("names", [("y",), ("residual",), ("x", "y", "residual")])
def test_halos_of_other_readers_are_left_alone(names: tuple[str, ...]) -> None:
    check(depthwise((2, LANES, 3, 8), residual=True), prepare=halo_around(*names))
