"""bench/kernels.py: what it counts, and that each of its forms runs; nothing here depends on speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cases import rows
from cases.convolution import Convolution
from onnx import helper, numpy_helper
from support.convolutions import FAMILIES
from support.kernels import LANES
from support.programs import NodeProgram, only, random_array

import kernels
from cpuruntime.ops.tiles.tile_shapes import tile_shapes
from cpuruntime.program.convolution import direct, grouped
from cpuruntime.program.report.roofs import FmaPeak, ReadRoof
from cpuruntime.program.tuning.tiles import Tiling
from kernel import report
from kernel.describe import describe
from kernel.measure import Timing
from kernel.work import Flops, flops, moved_bytes


def counted(case: Convolution, monkeypatch: pytest.MonkeyPatch, rows: int = 1, columns: int = 1) -> Flops:
    tiling = Tiling(rows, columns, 100)
    for module in (direct, grouped):
        monkeypatch.setattr(module, "rank_tilings", lambda *sizes: only(tiling))
    (step,) = NodeProgram(case.node(), watched=FAMILIES).watched
    return flops(step)


def ones_under_the_kernel(case: Convolution) -> int:
    """How many products with pixels of the image there are in one output channel of one group."""
    image = np.pad(np.ones(case.x[2:]), [(case.pads[i], case.pads[2 + i]) for i in range(2)])
    total, (height, width) = 0, case.output_shape[2:]
    for y in range(height):
        for x in range(width):
            for i, j in np.ndindex(*case.kernel):
                row, column = y * case.strides[0] + i * case.dilations[0], x * case.strides[1] + j * case.dilations[1]
                total += int(image[row, column])
    return total


@pytest.mark.parametrize(
    "case",
    [
        Convolution((1, LANES, 7, 7), LANES),
        Convolution((1, LANES, 8, 5), 2 * LANES, (3, 2), (1, 2, 0, 1), (2, 1), (1, 2)),
        Convolution((1, LANES, 3, 4), LANES, (1, 1), (0, 0, 0, 0)),
        Convolution((1, LANES, 4, 4), LANES, pads=(1, 1, 1, 1), group=LANES),
        Convolution((1, 3, 9, 8), LANES, (5, 5), (2, 2, 2, 2), (2, 2)),
    ],
)
def test_useful_work_is_what_falls_on_the_image(case: Convolution, monkeypatch: pytest.MonkeyPatch) -> None:
    work = counted(case, monkeypatch)
    channels = case.channels * case.x[1] // case.group
    assert work.useful == 2 * channels * ones_under_the_kernel(case)
    assert work.nominal == 2 * channels * int(np.prod(case.kernel)) * int(np.prod(case.output_shape[2:]))


def test_executed_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # Kernel rows above and below the image are skipped, columns where a tile reads nothing else: 19 of 21 for 7 pixels.
    square = Convolution((1, LANES, 7, 7), LANES)
    assert counted(square, monkeypatch).executed == 2 * 19 * 19 * LANES * LANES
    assert counted(square, monkeypatch, 4, 1).executed == 2 * 19 * 8 * 3 * LANES * LANES
    # 5 pixels are two tiles of 4; 3 blocks are two tiles of 2.
    wide = Convolution((2, LANES, 1, 5), 3 * LANES, (1, 1), (0, 0, 0, 0))
    assert counted(wide, monkeypatch, 4, 2).executed == 2 * 2 * 8 * 4 * LANES * LANES
    # Groups of half a vector multiply whole vectors of weights by each of their inputs.
    narrow = Convolution((1, 2 * LANES, 1, 4), 2 * LANES, (1, 1), (0, 0, 0, 0), group=LANES)
    assert counted(narrow, monkeypatch).executed == 2 * 2 * LANES * 4 * 2
    # Two groups of one and a half vectors are worked on as two vectors each.
    half = LANES + LANES // 2
    apart = Convolution((1, 2 * half, 1, 1), 2 * half, (1, 1), (0, 0, 0, 0), group=2)
    assert counted(apart, monkeypatch).executed == 2 * 4 * LANES * half
    # Every lane of the block works, whatever channels there are.
    few = Convolution((1, 5, 1, 1), 3, (1, 1), (0, 0, 0, 0))
    assert counted(few, monkeypatch).executed == 2 * LANES * LANES


def test_steps_are_described_and_their_bytes_counted() -> None:
    case = Convolution((1, LANES, 6, 6), 2 * LANES, strides=(2, 2), residual=True)
    planned = NodeProgram(case.node(), watched=FAMILIES)
    (step,) = planned.watched
    assert describe(step) == f"3x3/2 {LANES}x6x6 -> {2 * LANES}x3x3 +residual"
    tensors = (*case.inputs, case.weights, random_array((case.channels,)), random_array(case.output_shape))
    assert moved_bytes(step) == sum(tensor.nbytes for tensor in tensors)
    reorders = [step for step in planned.program.steps if step.layout == "plain -> blocked"]
    spelled = {f"plain -> blocked {LANES}x6x6", f"plain -> blocked {2 * LANES}x3x3"}
    assert {describe(reorder) for reorder in reorders} == spelled
    assert sum(map(moved_bytes, reorders)) == 2 * sum(array.nbytes for array in case.inputs)


def test_rows_follow_from_medians() -> None:
    case = Convolution((1, LANES, 4, 4), LANES, (1, 1), (0, 0, 0, 0))
    (step,) = NodeProgram(case.node(), watched=FAMILIES).watched
    work = flops(step).nominal
    peak = FmaPeak()
    peak.measured = [work * 1e3] * 3
    timing = Timing(step, 2, 1e-3, alone=[1e-3, 2e-3, 9e-3], in_program=[4e-3], peaks=peak.measured)
    row = report.compute_row(timing, peak)
    assert (row["microseconds"], row["nominal"], row["count"]) == (2000, 0.5, 2)
    assert row["gflops"] == pytest.approx(work / 2e-3 / 1e9)
    assert row["best"] == pytest.approx(work / 1e-3 / 1e9)
    assert report.total_row([timing], "all")["microseconds"] == pytest.approx(4000)
    assert report.goal_line([row]).startswith("0 of 1 kinds of layers at 90% of peak")


def test_an_unsteady_peak_is_reported() -> None:
    peak = FmaPeak()
    peak.measured = [100e9] * 20
    assert len(report.peak_lines(peak)) == 1
    peak.measured = [100e9] * 15 + [50e9] * 5
    assert "not steady" in report.peak_lines(peak)[1]


def test_columns_are_aligned() -> None:
    columns = [report.Column("a", "name"), report.Column("b", "n", "d"), report.Column("c", "share", ".1%")]
    rows: list[report.Row] = [{"a": "x", "b": 10, "c": 0.5}, {"a": "longer", "b": 7}]
    assert report.table(columns, rows).splitlines() == ["name     n  share", "x       10  50.0%", "longer   7"]


def test_roofs_are_positive() -> None:
    assert FmaPeak().measure(1) > 1e8
    assert ReadRoof().measure(10_000, threads=2, times=1) > 1e6


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model file: a convolution, a pool and a product of one row."""
    weights = {"w": random_array((LANES, LANES, 3, 3)), "m": random_array((LANES, 10))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", LANES, 6, 6]), ("y", ["n", 10])))
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", [x], [y], initializers)
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    path = tmp_path / "out.json"
    assert kernels.main([*arguments, "--rounds", "1", "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_a_model(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path, "-m", str(small), "-b", "2", "--exact")
    (layer,) = found["layers"]
    assert layer["layer"] == f"3x3 2x{LANES}x6x6 -> 2x{LANES}x6x6"
    assert layer["kernel"].startswith("convolution")
    assert 0 < layer["useful"] < layer["executed"]
    assert any(step["kernel"].startswith("matmul") for step in found["steps"])
    assert layer["layer"] in capsys.readouterr().out


def test_winograds_method_executes_less() -> None:
    case = Convolution((1, 4 * LANES, 28, 28), 4 * LANES)
    (step,) = NodeProgram(case.node(), watched=["winograd"], exact=False).watched
    work = flops(step)
    assert work.nominal * 36 / (16 * 9) <= work.executed < work.nominal / 2


def test_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "TILE_LAYERS", ((LANES, LANES, 8, 3),))
    monkeypatch.setattr(kernels, "tile_shapes", lambda: [tile for tile in tile_shapes() if tile == (1, 1)])
    (row,) = run(tmp_path, "--tiles")["tiles"]
    assert row["tile"] == "1x1"


def test_choices(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tilings = [*only(Tiling(1, 1, 1)), *only(Tiling(1, 1, 9))]
    monkeypatch.setattr(direct, "rank_tilings", lambda *sizes: tilings)
    found = run(tmp_path, "-m", str(small), "-b", "2", "--choices")["choices"]
    method = found[0]
    assert {name for name, _, _ in method["candidates"]} >= {"direct", "F(4x4, 3x3)", "F(2x2, 3x3)"}
    for row in found:
        assert row["loss"] >= 0
        assert all(seconds > 0 for _, _, seconds in row["candidates"])


def test_cases_of_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path, "--cases", "grid_sample")["cases"]
    assert {row["case"] for row in found} == {case.name for case in rows("grid_sample")}
    assert all(row["microseconds"] > 0 and row["kernel"].startswith("grid_sample") for row in found)
    assert kernels.main(["--cases", "grid"]) == 1
    assert "no cases of 'grid'; choose all, " in capsys.readouterr().err


def test_bandwidth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "WORKING_SETS", (16,))
    (row,) = run(tmp_path, "--bandwidth")["bandwidth"]
    assert row["threads 1"] > 0


def test_an_open_shape_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["-m", str(small)]) == 1
    assert "open input shapes" in capsys.readouterr().err
