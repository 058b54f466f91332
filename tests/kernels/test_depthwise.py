"""Depthwise convolutions as programs run them, on sizes around those of the tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.convolutions import FAMILIES, Case, check, expected, halo_around
from support.kernels import LANES
from support.programs import NodeProgram, same_for_threads

from cpuruntime.ops.tiles.tile_shapes import lane_rows
from cpuruntime.program.convolution import depthwise as lowering
from cpuruntime.program.convolution.depthwise import choose_rows
from cpuruntime.program.convolution.direct import MOST_NARROW

pytestmark = pytest.mark.every_isa


def depthwise(
    x: tuple[int, ...], kernel: tuple[int, ...] = (3, 3), pads: tuple[int, ...] = (1, 1, 1, 1), **more: Any
) -> Case:
    return Case(x, x[1], kernel, pads, group=x[1], **more)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 7, 8, 9, 10, 13, 14, 15, 17, 27, 29])
def test_widths_around_the_tiles(width: int) -> None:
    planned = check(depthwise((2, LANES, 3, width)))
    assert planned.kernels == [f"depthwise_f32_{LANES}_{choose_rows(width, 3)}_k3_s1"]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_runs_of_kernel_columns(kernel: int, stride: int) -> None:
    taps = {8: 4, 9: 3, 11: 1}.get(kernel, kernel)
    form = f"_k{taps}_s{stride}" if stride < 3 and taps > 1 else "_k1"
    planned = check(depthwise((2, LANES, 3, 23), (2, kernel), (1, kernel // 2, 0, 1), strides=(1, stride)))
    assert planned.kernels[0].endswith(form)


WIDTHS = [1 << i for i in range(LANES.bit_length())]
NARROW = [(i, o) for o in WIDTHS for i in WIDTHS if i <= min(o, MOST_NARROW) and o > 1]
"""Inputs and outputs of a group that lies within a vector."""


@pytest.mark.parametrize(("inputs", "outputs"), NARROW)
@pytest.mark.parametrize("groups", [LANES // 2 + 1, 2 * LANES])
def test_narrow_groups(inputs: int, outputs: int, groups: int) -> None:
    planned = check(Case((2, inputs * groups, 4, 9), outputs * groups, group=groups, residual=True))
    assert planned.kernels == [f"depthwise_f32_{LANES}_{choose_rows(9, 3, True)}_k3_s1_{inputs}to{outputs}"]


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 2), (2, 2), (2, 4), (4, 4)])
@pytest.mark.parametrize(
    ("kernel", "strides", "dilations"),
    [((1, 1), (1, 1), (1, 1)), ((5, 5), (2, 2), (1, 1)), ((3, 9), (1, 1), (1, 1)), ((3, 3), (1, 3), (2, 2))],
)
def test_windows_of_narrow_groups(
    inputs: int, outputs: int, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]
) -> None:
    groups = LANES + 3
    pads = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilations)) * 2
    check(Case((1, inputs * groups, 6, 14), outputs * groups, kernel, pads, strides, dilations, group=groups))


@pytest.mark.parametrize("kernel", [3, 7])
def test_every_tile_computes_the_same_bits(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = depthwise((1, LANES, 7, 29), (kernel, kernel), (1, kernel // 2, 1, kernel // 2), residual=True)
    results = set()
    for rows in lane_rows(kernel):
        monkeypatch.setattr(lowering, "choose_rows", lambda *sizes, rows=rows: rows)
        results.add(check(case).run(*case.inputs).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("channels", [2, LANES - 1, LANES, LANES + 1, 3 * LANES, 3 * LANES + 2])
def test_channels_around_the_vector(channels: int) -> None:
    check(depthwise((3, channels, 5, 5)))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "pads"), [((3, 3), (0, 2, 1, 0)), ((1, 1), (0, 0, 0, 0)), ((5, 2), (4, 1, 6, 0)), ((7, 7), (3, 3, 3, 3))]
)
def test_kernels_and_strides(stride: int, kernel: tuple[int, int], pads: tuple[int, ...]) -> None:
    check(depthwise((1, LANES + 3, 8, 13), kernel, pads, strides=(stride, stride)))


def test_strides_of_height_and_width_differ() -> None:
    check(depthwise((1, LANES, 7, 15), strides=(3, 2)))


@pytest.mark.parametrize(
    ("dilations", "pads"),
    [((2, 1), (1, 1, 1, 1)), ((1, 3), (0, 2, 0, 4)), ((3, 2), (5, 3, 2, 3)), ((9, 1), (9, 1, 9, 1))],
)
def test_dilations(dilations: tuple[int, int], pads: tuple[int, ...]) -> None:
    check(depthwise((2, LANES, 7, 9), (3, 3), pads, dilations=dilations))


def test_rows_that_see_no_pixel() -> None:
    check(depthwise((1, LANES, 2, 7), (3, 3), (4, 5, 6, 7)))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("activation", "arguments"), [("", ()), ("Relu", ()), ("Clip", (0.0, 1.0)), ("LeakyRelu", (0.25,))]
)
@pytest.mark.parametrize("bias", [False, True])
def test_epilogues(residual: bool, activation: str, arguments: tuple[float, ...], bias: bool) -> None:
    check(depthwise((2, LANES + 1, 4, 7), residual=residual, activation=activation, arguments=arguments, bias=bias))


def test_activations_are_applied_once_where_tiles_overlap() -> None:
    case = Case((2, LANES + 1, 3, 17), LANES + 1, group=LANES + 1, activation="LeakyRelu", arguments=(-2.0,))
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


def test_signals() -> None:
    check(depthwise((2, LANES + 5, 17), (3,), (2, 1), strides=(2,), dilations=(1,)))
