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

import models
import peers
from cpuruntime.errors import InvalidArgumentError, ModelNotFoundError
from cpuruntime.frontend.light_models import LIGHT_MODELS
from peer import document, engines
from peer.chart import rows_of
from peer.compare import Plan
from peer.mode import Mode
from peer.models import expand, prepare
from peer.process import EngineError, EngineProcess
from peer.ratios import angle, geometric_mean, output_error, ratio, rotated
from peer.report import LARGEST_ANGLE, EngineResult, Result, Table, geometric_means, machine, remarks


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


def test_outputs_of_8_bits_are_compared_by_their_angle() -> None:
    reference = [np.array([3.0, 4.0], np.float32)]
    assert angle([np.array([4.0, 3.0], np.float32)], reference) == pytest.approx(1 - 24 / 25)
    assert angle([2 * reference[0]], reference) == pytest.approx(0)
    assert angle([np.zeros((1, 2))], reference) == math.inf
    assert angle([np.zeros(2)], reference) == 1
    result = EngineResult(error=0.05)
    assert result.wrong
    result.largest_error = LARGEST_ANGLE
    assert not result.wrong


def test_modes() -> None:
    assert Mode.parse("latency12") == Mode("latency12", 12)
    assert Mode.parse("async1") == Mode("async1", 1, asynchronous=True)
    assert Mode.parse("throughput").unit == "FPS"
    for text in ("latency", "latency0", "async", "speed"):
        with pytest.raises(ValueError, match=text):
            Mode.parse(text)


def test_prepare_keeps_a_file_that_needs_no_change(tmp_path: Path) -> None:
    path = save_relu(tmp_path / "fixed.onnx", [2, 8])
    model = prepare(str(path), tmp_path)
    assert (model.kind, model.name, model.path, model.names, model.batch) == ("", "fixed", path, ("x",), 2)
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


def test_open_shapes_stay_open_with_inputs_of_an_extent(relu: Path, tmp_path: Path) -> None:
    model = prepare(str(relu), tmp_path, extent=3)
    assert model.path == relu.resolve()
    assert np.load(model.inputs)["arr_0"].shape == (3, 8)


def test_sets_are_all_models_of_their_kind_each_once(tmp_path: Path) -> None:
    path = str(save_relu(tmp_path / "fixed.onnx", [2, 8]))
    names = expand([path, "bench:mlp", "light:bvlc_alexnet", "bench"])
    assert names[:3] == [path, "bench:mlp", "light:bvlc_alexnet"]
    assert names[3:] == [f"bench:{name}" for name in models.MODELS if name != "mlp"]
    assert expand(["light"]) == [f"light:{name}" for name in LIGHT_MODELS]


@pytest.mark.parametrize("name", ["light:alexnot", "bench:mlq", "int8:resnet5", "gone.onnx"])
def test_unknown_models_are_refused_before_any_is_made(name: str) -> None:
    with pytest.raises(ModelNotFoundError if name == "gone.onnx" else InvalidArgumentError, match=name.split(":")[-1]):
        expand(["light", name])


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


@pytest.mark.parametrize("engine", ["cpuruntime", "openvino"])
def test_an_engine_starts_and_waits_in_an_asynchronous_mode(engine: str, tmp_path: Path) -> None:
    if not engines.installed(engine):
        pytest.skip(f"{engine} is not installed")
    model = prepare(str(save_relu(tmp_path / "fixed.onnx", [2, 8])), tmp_path)
    loaded = engines.load(engine, model.path, Mode.parse("async1"), {"x": np.full((2, 8), 1.5, np.float32)}, "CPU")
    loaded.start_and_wait()
    np.testing.assert_array_equal(loaded.outputs()[0], np.ones((2, 8)))


def test_what_has_no_asynchronous_mode_says_so(process: EngineProcess, tmp_path: Path) -> None:
    model = prepare(str(save_relu(tmp_path / "fixed.onnx", [2, 8])), tmp_path)
    process.load(model, mode="async1", device="CPU", outputs=tmp_path / "outputs.npz")
    with pytest.raises(EngineError, match="ONNX Runtime has no asynchronous inference"):
        process.slice(0.01)


def test_cpuruntime_counts_the_operations_of_its_program(tmp_path: Path) -> None:
    model = prepare("bench:mlp", tmp_path)
    with EngineProcess("cpuruntime") as process:
        answer = process.load(model, mode="latency1", device="CPU", outputs=tmp_path / "outputs.npz")
    assert answer["flops"] == 3 * 2 * 64 * 64


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
    process.child.kill()
    with pytest.raises(EngineError, match="the process ended with exit code -9"):
        process.slice(0.01)


def test_the_whole_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, report = save_relu(tmp_path / "small.onnx", [1, 8]), tmp_path / "report.json"
    arguments = ["-m", str(model), "--modes", "latency1", "throughput", "--seconds", "0.06", "--rounds", "3"]
    code = peers.main([*arguments, "--device", "REFERENCE", "--json", str(report)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "mean of all models" in printed
    document = json.loads(report.read_text())
    present = [name for name in engines.ENGINES if engines.installed(name)]
    assert [row["mode"] for row in document["results"]] == ["latency1", "throughput"]
    for row in document["results"]:
        assert list(row["engines"]) == present
        assert all(len(engine["values"]) == 3 for engine in row["engines"].values())
        assert row["engines"]["cpuruntime"]["error"] < 1e-6
        assert set(row["ratios"]) == set(present[1:])
        assert row["faster"] in present[1:]
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
    assert peers.main(["-m", str(model), "--require"]) == 1
    assert capsys.readouterr().err == "peers.py: --require needs every engine.\n"


def test_a_bad_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["-m", "gone.onnx"]) == 1
    assert capsys.readouterr().err.strip() == "peers.py: There is no model file 'gone.onnx'."


def results() -> list[Result]:
    failed = {"cpuruntime": EngineResult(failure="no kernel"), "openvino": EngineResult([3.0], median=3.0)}
    return [
        measured("alpha", "", "latency1", {"cpuruntime": 2.0, "openvino": 3.0}),
        Result("beta", "", Mode.parse("latency1"), failed, {}),
    ]


def measured(model: str, kind: str, mode: str, figures: dict[str, float]) -> Result:
    """A result of one round with these figures."""
    found = {name: EngineResult([value], median=value) for name, value in figures.items()}
    first, *others = figures
    parsed = Mode.parse(mode)
    ratios = {
        name: ratio([figures[first]], [figures[name]], smaller_is_better=parsed.is_latency) for name in others
    }
    return Result(model, kind, parsed, found, ratios)


def many() -> list[Result]:
    """Two models, one of them light, in two modes; OpenVINO is the faster peer in one result."""
    return [
        measured("alpha", "light", "latency1", {"cpuruntime": 0.002, "openvino": 0.008, "onnxruntime": 0.004}),
        measured("alpha", "light", "throughput", {"cpuruntime": 8e5, "openvino": 1e5, "onnxruntime": 2e5}),
        measured("beta", "bench", "latency1", {"cpuruntime": 10.0, "openvino": 5.0, "onnxruntime": 20.0}),
        measured("beta", "bench", "throughput", {"cpuruntime": 100.0, "openvino": 50.0, "onnxruntime": 0.5}),
    ]


def test_the_table_is_aligned_and_shows_failures() -> None:
    table = Table(["alpha", "beta"], [Mode.parse("latency1")], ["cpuruntime", "openvino"])
    rows = [table.header(), *map(table.row, results()), *table.means(results())]
    assert rows[1].split() == ["alpha", "latency1", "2.00", "ms", "3.00", "ms", "1.500", "(1.50..1.50)"]
    assert rows[2].split() == ["beta", "latency1", "failed", "3.00", "ms", "-"]
    assert rows[3].split() == ["mean", "of", "all", "models", "latency1", "1.500"]
    assert len({len(row) for row in rows}) == 1


def test_the_table_ends_with_the_ratio_to_the_faster_of_two_peers() -> None:
    modes = [Mode.parse("latency1"), Mode.parse("throughput")]
    table = Table(["alpha", "beta"], modes, ["cpuruntime", "openvino", "onnxruntime"])
    rows = [table.header(), *map(table.row, many())]
    assert [row.split()[-1] for row in rows] == ["faster", "2.000", "4.000", "0.500", "2.000"]
    assert "2.00 us" in rows[1]
    assert "800,000 FPS" in rows[2]
    means = [(line.split()[2], line.split()[-1]) for line in table.means(many())]
    assert means == [*zip(["light"] * 3, ["2.000", "4.000", "2.828"]), *zip(["all"] * 3, ["1.000", "2.828", "1.682"])]


def test_a_failed_model_does_not_enter_the_mean() -> None:
    (mean,) = geometric_means(results())
    assert (mean.group, mean.mode, mean.models) == ("all models", "latency1", 1)
    assert mean.ratios == {"openvino": pytest.approx(1.5)}
    assert mean.faster == pytest.approx(1.5)


def report(folder: Path, results: list[Result], isa: str = "avx2") -> str:
    """The tables of a report of these results, from a machine of an instruction set."""
    plan = Plan(["cpuruntime", "openvino", "onnxruntime"], 1.0, 1)
    document.write(folder, plan, machine() | {"isa": isa}, 100e9, results)
    return (folder / "peers.md").read_text()


def test_the_report_has_a_table_for_each_mode_with_shares_of_the_peak(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = many()
    given[2].engines["cpuruntime"].flops = 500_000_000
    given[1].engines["openvino"].failure = "no kernel"
    lines = report(tmp_path, given).splitlines()
    assert "| light models | all modes | 1 | 2.828 |" in lines
    assert "| alpha | 2.00 us | 8.00 us | 4.00 us | 2.000 | 2.00 .. 2.00 | - | - |" in lines
    assert "| beta | 10.00 ms | 5.00 ms | 20.00 ms | 0.500 | 0.50 .. 0.50 | 50 | 50% |" in lines
    assert "| alpha | 800,000 FPS | failed | 200,000 FPS | 4.000 | 4.00 .. 4.00 |" in lines
    assert "- alpha throughput: openvino failed: no kernel" in lines


def test_a_report_keeps_the_sections_of_other_classes_of_machines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report(tmp_path, many())
    wide = report(tmp_path, many()[:1], "avx512")
    again = report(tmp_path, many()[2:])
    titles = ["# cpuruntime against its peers", "## AVX-512", "## AVX2"]
    for text in (wide, again):
        assert [line for line in text.splitlines() if line.startswith(("# ", "## "))] == titles
    before, after = wide.partition("## AVX2")[0], again.partition("## AVX2")
    assert after[0] == before
    assert "| alpha |" not in after[2]
    assert {path.name for path in tmp_path.iterdir()} == {"peers.md", "peers-avx2.svg", "peers-avx512.svg"}


def test_the_plot_has_a_row_for_each_model_and_mean_and_is_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report(tmp_path / "one", many())
    report(tmp_path / "two", many())
    plot = (tmp_path / "one" / "peers-avx2.svg").read_text()
    assert plot == (tmp_path / "two" / "peers-avx2.svg").read_text()
    for text in ("alpha", "beta", "mean of light models", "mean of all models", "latency1", "throughput"):
        assert f">{text}<" in plot
    assert rows_of(many())["beta"] == {"latency1": 0.5, "throughput": 2.0}


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


def test_where_results_cannot_be_written_is_found_before_measuring(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, relu: Path
) -> None:
    (tmp_path / "file").touch()
    for option, target in (("--json", tmp_path / "file" / "results.json"), ("--json", tmp_path)):
        assert peers.main(["-m", str(relu), option, str(target)]) == 1
        captured = capsys.readouterr()
        assert (captured.out.count("ms"), captured.err.count("\n")) == (0, 1)
        assert captured.err.startswith(str(tmp_path))
