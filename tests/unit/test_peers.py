"""bench/peers.py: ratios, order, protocol and report. A tiny model runs through whichever engines are installed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_models import make_model

import peers
from cpuruntime.errors import InvalidArgumentError, ModelNotFoundError
from peer import engines
from peer.mode import Mode
from peer.models import prepare
from peer.process import EngineError, EngineProcess
from peer.ratios import geometric_mean, output_error, ratio, rotated
from peer.report import EngineResult, Result, Table, geometric_means, remarks


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    """A model file: y = relu(x - 0.5), x of the shape [?, 8]."""
    return save_relu(tmp_path / "relu.onnx", ["n", 8])


def save_relu(path: Path, shape: list[int | str]) -> Path:
    nodes = [helper.make_node("Sub", ["x", "half"], ["d"]), helper.make_node("Relu", ["d"], ["y"])]
    model = make_model(nodes, {"x": shape}, {"y": shape})
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]))
    onnx.save(model, path)
    return path


def test_a_ratio_above_one_means_faster_in_every_mode() -> None:
    faster = ratio([2.0, 2.0], [3.0, 4.0], smaller_is_better=True)
    assert (faster.median, faster.low, faster.high, list(faster.rounds)) == (1.75, 1.5, 2.0, [1.5, 2.0])
    slower = ratio([100.0], [200.0], smaller_is_better=False)
    assert slower.median == 0.5


def test_a_ratio_is_taken_within_a_round() -> None:
    drifting = ratio([1.0, 2.0, 4.0], [1.5, 3.0, 6.0], smaller_is_better=True)
    assert (drifting.low, drifting.high) == (1.5, 1.5)


def test_rounds_of_unequal_number_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0], smaller_is_better=True)


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([3.0]) == pytest.approx(3.0)


def test_every_engine_takes_every_place() -> None:
    orders = [rotated("ABC", turn) for turn in range(4)]
    assert orders == [list("ABC"), list("BCA"), list("CAB"), list("ABC")]


def test_output_error_is_relative_to_the_largest_magnitude() -> None:
    reference = [np.array([0.0, -4.0], np.float32)]
    assert output_error([np.array([1.0, -4.0], np.float32)], reference) == 0.25
    assert output_error(reference, reference) == 0.0
    assert output_error([np.array([[0.0, -4.0]], np.float32)], reference) == math.inf
    assert output_error([np.array([np.nan, -4.0], np.float32)], reference) == math.inf
    assert output_error([], reference) == math.inf


def test_modes() -> None:
    assert Mode.parse("latency12") == Mode("latency12", 12)
    assert Mode.parse("throughput").unit == "FPS"
    for text in ("latency", "latency0", "speed"):
        with pytest.raises(ValueError, match=text):
            Mode.parse(text)


def test_prepare_keeps_a_file_that_needs_no_change(tmp_path: Path) -> None:
    path = save_relu(tmp_path / "fixed.onnx", [2, 8])
    model = prepare(str(path), tmp_path)
    assert (model.name, model.path, model.names, model.batch) == ("fixed", path, ("x",), 2)
    with np.load(model.inputs) as archive:
        assert archive["arr_0"].shape == (2, 8)
        assert archive["arr_0"].std() > 0.1


@pytest.mark.parametrize("change", [{"shape": "x[4,8]"}, {"batch": 4}])
def test_prepare_writes_the_asked_shape_to_a_copy(relu: Path, tmp_path: Path, change: dict) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    model = prepare(str(relu), folder, **change)
    assert model.path.parent == folder
    assert model.batch == 4
    sizes = [dimension.dim_value for dimension in onnx.load(model.path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [4, 8]


def test_prepare_refuses_what_it_cannot_fill(relu: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'x' has an open shape.*-shape or -b"):
        prepare(str(relu), tmp_path)
    with pytest.raises(ModelNotFoundError, match="gone"):
        prepare("gone.onnx", tmp_path)


@pytest.fixture
def process() -> Iterator[EngineProcess]:
    with EngineProcess("onnxruntime") as opened:
        yield opened


def test_an_engine_loads_and_measures_in_its_process(process: EngineProcess, tmp_path: Path) -> None:
    model = prepare(str(save_relu(tmp_path / "fixed.onnx", [2, 8])), tmp_path)
    outputs = tmp_path / "outputs.npz"
    answer = process.load(model, mode="latency1", device="CPU", outputs=outputs)
    assert answer["version"]
    assert answer["load_seconds"] > 0
    with np.load(outputs) as given, np.load(model.inputs) as taken:
        np.testing.assert_allclose(given["arr_0"], np.maximum(taken["arr_0"] - 0.5, 0))
    measured = process.slice(0.01)
    assert measured["count"] > 0
    assert measured["value"] > 0


def test_the_memory_of_an_engine_is_its_own(tmp_path: Path) -> None:
    ballast = np.ones(40_000_000)
    model = prepare(str(save_relu(tmp_path / "fixed.onnx", [2, 8])), tmp_path)
    with EngineProcess("onnxruntime") as process:
        process.load(model, mode="latency1", device="CPU", outputs=tmp_path / "outputs.npz")
        peak = process.slice(0.01)["peak_memory_mb"]
    assert 10 < peak < ballast.nbytes / 2**20


def test_an_engine_s_error_is_passed_on_and_the_process_lives(process: EngineProcess, tmp_path: Path) -> None:
    model = prepare(str(save_relu(tmp_path / "fixed.onnx", [2, 8])), tmp_path)
    outputs = tmp_path / "outputs.npz"
    with pytest.raises(EngineError, match=r"absent\.onnx"):
        process.load(replace(model, path=tmp_path / "absent.onnx"), mode="latency1", device="CPU", outputs=outputs)
    with pytest.raises(EngineError, match="slice before load"):
        process.slice(0.01)
    assert process.load(model, mode="throughput", device="CPU", outputs=outputs)["settings"]["callers"] >= 1


def test_a_process_that_dies_is_reported(process: EngineProcess) -> None:
    process._process.kill()
    with pytest.raises(EngineError, match="the process ended with exit code -9"):
        process.slice(0.01)


def test_the_whole_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, report = save_relu(tmp_path / "small.onnx", [1, 8]), tmp_path / "report.json"
    arguments = ["-m", str(model), "--modes", "latency1", "throughput", "--seconds", "0.06", "--rounds", "3"]
    code = peers.main([*arguments, "--device", "REFERENCE", "--json", str(report)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "geometric mean" in printed
    document = json.loads(report.read_text())
    present = [name for name in engines.ENGINES if engines.installed(name)]
    assert [row["mode"] for row in document["results"]] == ["latency1", "throughput"]
    for row in document["results"]:
        assert list(row["engines"]) == present
        assert all(len(engine["values"]) == 3 for engine in row["engines"].values())
        assert row["engines"]["cpuruntime"]["error"] < 1e-6
        assert set(row["ratios"]) == set(present[1:])
    assert document["machine"]["allowed_cores"]


def test_a_missing_peer_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "installed", lambda name: name == "onnxruntime")
    model = save_relu(tmp_path / "small.onnx", [1, 8])
    assert peers.main(["-m", str(model), "--modes", "latency1", "--seconds", "0.02", "--rounds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "openvino is not installed and left out" in printed
    assert "vs" not in printed


def test_a_bad_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["-m", "gone.onnx"]) == 1
    assert capsys.readouterr().err.strip() == "peers.py: There is no model file 'gone.onnx'."


def results() -> list[Result]:
    engines = {"cpuruntime": EngineResult([2.0], median=2.0, error=1e-7), "openvino": EngineResult([3.0], median=3.0)}
    found = {"openvino": ratio([2.0], [3.0], smaller_is_better=True)}
    failed = {"cpuruntime": EngineResult(failure="no kernel"), "openvino": EngineResult([3.0], median=3.0)}
    mode = Mode.parse("latency1")
    return [Result("alpha", mode, engines, found), Result("beta", mode, failed, {})]


def test_the_table_is_aligned_and_shows_failures() -> None:
    table = Table(["alpha", "beta"], [Mode.parse("latency1")], ["cpuruntime", "openvino"])
    rows = [table.header(), *map(table.row, results()), *table.means(results())]
    assert rows[1].split() == ["alpha", "latency1", "2.00", "ms", "3.00", "ms", "1.500", "(1.50..1.50)"]
    assert rows[2].split() == ["beta", "latency1", "failed", "3.00", "ms", "-"]
    assert rows[3].split() == ["geometric", "mean", "latency1", "1.500"]
    assert len({len(row) for row in rows}) == 1


def test_a_failed_model_does_not_enter_the_mean() -> None:
    assert geometric_means(results()) == {"latency1": {"openvino": pytest.approx(1.5)}}


def test_remarks_name_failures_wrong_outputs_and_busy_idlers() -> None:
    good, failed = results()
    assert remarks(good) == []
    assert remarks(failed) == ["beta latency1: cpuruntime failed: no kernel"]
    good.engines["cpuruntime"].error = math.nan
    good.engines["openvino"].idle_cpu_seconds = 100.0
    assert [line.split(": ", 1)[1] for line in remarks(good)] == [
        "cpuruntime gives other outputs: relative error nan",
        "openvino used 100.00 s of processor time in the others' turn",
    ]
