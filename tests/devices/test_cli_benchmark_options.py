"""The options of `cpuruntime benchmark` that OpenVINO's benchmark_app has, and loads, on devices."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.command import fails, run
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.cli.benchmark.report import Progress
from cpuruntime.cli.main import main


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """small.onnx in the present folder: y[?, 4] = relu(x[?, 8] @ w), with the batch open."""
    weights = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"], "product"), helper.make_node("Relu", ["xw"], ["y"], "relu")]
    model = make_model(nodes, {"x": ["n", 8]}, {"y": ["n", 4]})
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "small.onnx")
    monkeypatch.chdir(tmp_path)
    return "small.onnx"


@pytest.fixture
def image_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """image.onnx in the present folder, of an image [1, 3, ?, ?]: the mean of each channel."""
    nodes = [helper.make_node("GlobalAveragePool", ["image"], ["y"])]
    onnx.save(make_model(nodes, {"image": [1, 3, "h", "w"]}, {"y": [1, 3, 1, 1]}), tmp_path / "image.onnx")
    monkeypatch.chdir(tmp_path)
    return "image.onnx"


def count(output: str) -> int:
    match = re.search(r"Count: +(\d+)", output)
    assert match
    return int(match[1])


@pytest.mark.parametrize("device", ["REFERENCE", "CPU"])
def test_data_shapes_take_turns(capsys: pytest.CaptureFixture[str], model: str, device: str) -> None:
    arguments = ["-m", model, "-d", device, "-data_shape", "[1,8][5,8][2,8]", "-niter", "7", "-pcseq"]
    output = run(capsys, *arguments)
    assert "Benchmarking in full mode" in output
    assert "aligned by number of input shapes from 7 to 9" in output or count(output) % 3 == 0
    assert "Defined 3 tensor groups:" in output
    groups = output.partition("Latency for each data shape group:")[2]
    assert [line for line in groups.splitlines() if ". x:" in line] == [
        "[ INFO ] 1. x: [1, 8]", "[ INFO ] 2. x: [5, 8]", "[ INFO ] 3. x: [2, 8]"
    ]  # fmt: skip
    assert "Model batch size: ?" in output


def test_one_data_shape_may_be_set_before_measuring(capsys: pytest.CaptureFixture[str], model: str) -> None:
    arguments = ["-m", model, "-data_shape", "[3,8]", "-niter", "3", "-hint", "latency"]
    assert "Model batch size: 3" in run(capsys, *arguments)
    output = run(capsys, *arguments, "-inference_only")
    assert "Benchmarking in inference only mode" in output
    assert "set_input" not in output


def test_inputs_from_files(capsys: pytest.CaptureFixture[str], model: str) -> None:
    np.save("a.npy", np.ones((2, 8), np.float32))
    np.save("b.npy", np.ones((4, 8), np.float32))
    np.savez("c.npz", x=np.ones((1, 8), np.float32))
    output = run(capsys, "-m", model, "-i", "a.npy", "b.npy", "-niter", "4")
    assert "Fill input 'x' from 2 files" in output
    assert "Defined 2 tensor groups:" in output
    assert "Model batch size: 1" in run(capsys, "-m", model, "-i", "x:c.npz", "-niter", "2", "-api", "sync")
    assert "[1,8]" in run(capsys, "-m", model, "-b", "1", "-i", "c.npz", "-niter", "2")


def test_a_folder_of_images(capsys: pytest.CaptureFixture[str], image_model: str) -> None:
    image = pytest.importorskip("PIL.Image")
    Path("images").mkdir()
    for size in (8, 12):
        image.new("RGB", (size, size)).save(f"images/{size}.png")
    output = run(capsys, "-m", image_model, "-i", "images", "-niter", "4")
    assert "image: [1, 3, 12, 12]" in output
    output = run(capsys, "-m", image_model, "-shape", "[1,3,10,10]", "-i", "images", "-niter", "4", "-b", "2")
    assert "/ [N,C,H,W] / [2,3,10,10]" in output
    assert "The batch of -b 2 replaces that of -shape." in output


def test_the_batch_may_be_open_or_the_model_s_own(capsys: pytest.CaptureFixture[str], image_model: str) -> None:
    arguments = ["-m", image_model, "-niter", "2", "-shape", "[3,3,8,8]"]
    assert "/ [3,3,8,8]" in run(capsys, *arguments, "-b", "0")
    for batch in ("?", "-1", "1..4"):
        assert "batch size: 2" in run(capsys, *arguments, "-b", batch, "-data_shape", "[2,3,8,8]")
    assert "does not fit input 'image'" in fails(capsys, *arguments, "-b", "1..4", "-data_shape", "[5,3,8,8]")


def test_images_are_bytes_unless_options_say_otherwise(capsys: pytest.CaptureFixture[str], image_model: str) -> None:
    def types(*arguments: str) -> list[str]:
        output = run(capsys, "-m", image_model, "-shape", "[1,3,9,9]", "-niter", "2", *arguments)
        return re.findall(r" : (\w+) / ", output.partition("[Step 6/11]")[2])

    np.save("image.npy", np.ones((1, 3, 9, 9), np.float32))
    assert types() == ["u8", "f32"]
    assert types("-i", "image.npy") == ["f32", "f32"]
    assert types("-ip", "f16", "-op", "f64") == ["f16", "f64"]
    assert types("-ip", "f16", "-iop", "image:i32, y:f16") == ["i32", "f16"]


def test_mean_and_scale_are_part_of_the_model(capsys: pytest.CaptureFixture[str], image_model: str) -> None:
    arguments = ["-shape", "[1,3,9,9]", "--mean_values", "[1,2,3]", "--scale_values", "image[0.5]"]
    output = run(capsys, "-m", image_model, "-niter", "2", "-d", "REFERENCE", *arguments)
    assert re.search(r"of \d steps have no kernel and run slowly: .*1 Sub", output)
    assert re.search(r"of \d steps have no kernel and run slowly: .*1 (Div|Mul)", output)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--mean_values", "[1,2]"], "2 numbers are given for 3 channels"),
        (["--scale_values", "[1,0,3]"], "--scale_values [1,0,3]: the numbers must be finite, and scales not 0."),
        (["--mean_values", "[1,nan,3]"], "--mean_values [1,nan,3]: the numbers must be finite, and scales not 0."),
        (["--mean_values", "[1,red,3]"], "--mean_values [1,red,3]: it must be numbers, one for each channel."),
        (["--scale_values", "imag[1]"], "names 'imag', and the model's inputs are 'image'. Did you mean 'image'?"),
        (["-layout", "[NHWC]", "--mean_values", "[1,2,3]"], "no input is an image of three channels; name one."),
        (["-iop", "y:f99"], "-iop 'y:f99': write name:type with one of the types bool, f16"),
        (["-iop", "z:f16"], "-iop names 'z', and the model's inputs and outputs are 'image', 'y'."),
        (["-lfile", "-ip", "f16"], "-lfile compiles the file as it is; leave out -ip."),
    ],
)
def test_wrong_preprocessing_is_one_line(
    capsys: pytest.CaptureFixture[str], image_model: str, arguments: list[str], complaint: str
) -> None:
    assert complaint in fails(capsys, "-m", image_model, "-niter", "2", *arguments)


def test_random_values_stay_inside_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 64])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    table = onnx.numpy_helper.from_array(np.zeros((2, 4), np.float32), "table")
    graph = helper.make_graph([helper.make_node("Gather", ["table", "ids"], ["y"])], "g", [ids], [result], [table])
    path = str(tmp_path / "ids.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    for arguments in ([], ["-lfile"]):
        assert count(run(capsys, "-m", path, "-niter", "2", "-api", "sync", *arguments)) == 2
    Path(tmp_path / "ids.blob").write_bytes(ov.Core().compile_model(path, "CPU").export_model().getvalue())
    output = run(capsys, "-m", str(tmp_path / "ids.blob"), "-niter", "2", "-api", "sync")
    assert count(output) == 2
    assert "Import model took" in output


def test_reports_are_written(capsys: pytest.CaptureFixture[str], model: str) -> None:
    arguments = ["-m", model, "-b", "1", "-hint", "latency", "-niter", "20", "-report_type", "average_counters"]
    output = run(capsys, *arguments, "-json_stats", "-pcsort", "sort", "-dump_config", "config.json",
                 "-exec_graph_path", "executed.onnx")  # fmt: skip
    held = json.loads(Path("benchmark_report.json").read_text())
    assert held["cmd_options"]["-niter"] == "20"
    setup, results = held["configuration_setup"], held["execution_results"]
    assert (setup["topology"], setup["target device"], setup["batch size"]) == ("small", "CPU", "1")
    assert setup["API"] == "sync"
    assert results["total number of iterations"] == "20"
    assert "error" not in results
    assert float(results["min latency"]) <= float(results["latency (ms)"]) <= float(results["max latency"])
    assert float(results["compile model time (ms)"]) > 0
    assert len(held["samples"]["latencies (ms)"]) == 20
    counters = json.loads(Path("benchmark_average_counters_report.json").read_text())["avg_performance"]["nodes"]
    assert {node["status"] for node in counters} == {"Status.EXECUTED"}
    assert Path("benchmark_sorted_report.json").exists()
    assert "Performance counters are turned on, since the report type is average_counters." in output
    assert json.loads(Path("config.json").read_text())["CPU"]["PERF_COUNT"] == "YES"
    steps = onnx.load("executed.onnx").graph.node
    times = {entry.value for step in steps for entry in step.metadata_props if entry.key == "execTimeMcs"}
    assert times
    assert all(time.isdigit() for time in times)


def test_properties_come_from_a_file_and_options_win(capsys: pytest.CaptureFixture[str], model: str) -> None:
    Path("config.json").write_text('{"CPU": {"NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": "YES"}}')
    arguments = ["-m", model, "-b", "1", "-niter", "1", "-load_config", "config.json"]
    output = run(capsys, *arguments)
    assert re.search(r"NUM_STREAMS: 1$", output, re.MULTILINE)
    assert "PERF_COUNT: True" in output
    assert "PERFORMANCE_HINT: PerformanceMode.LATENCY" in output
    assert "will be set to" not in output
    assert "PERFORMANCE_HINT: PerformanceMode.THROUGHPUT" in run(capsys, *arguments, "-hint", "tput")


def test_the_file_is_compiled_as_it_is(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-lfile", "-data_shape", "[1,8]", "-niter", "2", "-cdir", "cache", "-no_warmup")
    assert "[Step 4/11] Reading model files (skipped)" in output
    assert re.search(r"CACHE_DIR: cache$", output, re.MULTILINE)
    assert "Skipping warmup inference" in output
    assert "First inference" not in output


def test_the_rate_is_limited(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-b", "4", "-niter", "10", "-max_irate", "200", "-api", "sync")
    match = re.search(r"Throughput: +([\d.]+)", output)
    assert match
    assert float(match[1]) <= 200


@pytest.mark.parametrize("load", ["open:200", "burst:3:0.01", "trace:moments.txt"])
def test_open_loads(capsys: pytest.CaptureFixture[str], model: str, load: str) -> None:
    Path("moments.txt").write_text("0\n0.01\n0.01\n0.05\n")
    output = run(capsys, "-m", model, "-b", "1", "-hint", "latency", "--load", load, "-niter", "9")
    assert count(output) == (4 if "trace" in load else 9)
    assert "Start inference asynchronously, " in output
    assert re.search(r"p50 / p90 / p99 / p99.9: [\d.]+ / [\d.]+ / [\d.]+ / [\d.]+ [mu]s", output)
    assert re.search(r"Queued: +[\d.]+", output)


def test_what_was_measured_until_ctrl_c_is_printed_and_written(
    capsys: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(progress: Progress, seconds: float, iterations: int) -> None:
        if iterations == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", interrupt)
    arguments = ["-m", model, "-b", "1", "-hint", "latency", "-niter", "20", "-report_type", "no_counters"]
    assert main(["benchmark", *arguments, "--report", "page.html"]) == 130
    written = capsys.readouterr()
    assert count(written.out) == 5
    assert written.err == "[ ERROR ] Interrupted.\n"
    report = Path("benchmark_report.csv").read_text()
    assert "total number of iterations;5\n" in report
    assert "error;Interrupted.\n" in report
    assert ": 5 inferences in " in Path("page.html").read_text()


def test_an_error_while_measuring_keeps_the_report(
    capsys: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(progress: Progress, seconds: float, iterations: int) -> None:
        raise ov.InternalError("the engine died.")

    monkeypatch.setattr(Progress, "__call__", fail)
    fails(capsys, "-m", model, "-b", "1", "-api", "sync", "-niter", "20", "-report_type", "no_counters", "-json_stats")
    results = json.loads(Path("benchmark_report.json").read_text())["execution_results"]
    assert (results["error"], results["total number of iterations"]) == ("the engine died.", "1")


def test_a_process_that_is_killed_leaves_a_report(model: str) -> None:
    code = (
        "import os, sys; from cpuruntime.cli.benchmark.report import Progress; from cpuruntime.cli.main import main; "
        "Progress.__call__ = lambda *_: os.kill(os.getpid(), 9); main(sys.argv[1:])"
    )
    arguments = ["benchmark", "-m", model, "-b", "1", "-d", "REFERENCE", "-niter", "9", "-report_type", "no_counters"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=100, check=False)
    assert done.returncode == -9
    report = Path("benchmark_report.csv").read_text()
    assert "error;the process ended while it measured\n" in report
    assert "compile model time (ms);" in report


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-data_shape", "[1,9]"], "shape [1, 9] does not fit input 'x'"),
        (["-data_shape", "[1,8][2,8]", "-api", "sync"], "-api sync needs one shape for each input, and there are 2"),
        (["-data_shape", "[1,8][2,8]", "-inference_only"], "-inference_only needs one shape"),
        (["-layout", "[NCHW]"], "Layout [N,C,H,W] has 4 dimensions; 'x' has 2"),
        (["-b", "1", "-i", "missing.npy"], "-i missing.npy: there is no such file or folder."),
        (["-b", "1", "-i", "y:small.onnx"], "'y' is no input"),
        (["-report_type", "no_counters", "-report_folder", "gone"], "-report_folder 'gone': there is no such folder."),
        (["-exec_graph_path", "gone/a.onnx"], "-exec_graph_path gone/a.onnx: it must be a file in a folder"),
        (["-exec_graph_path", "a.xml"], "-exec_graph_path a.xml: the graph is written as ONNX; end it in .onnx."),
        (["--report", "gone/a.html"], "--report gone/a.html: it must be a file in a folder"),
        (["-dump_config", "."], "-dump_config .: it must be a file"),
        (["-load_config", "gone.json"], "-load_config gone.json cannot be read"),
        (["-lfile", "-b", "1"], "-lfile compiles the file as it is; leave out -b."),
        (["--load", "open:5", "-api", "sync"], "--load starts requests by itself"),
        (["-infer_precision", "xx"], "INFERENCE_PRECISION_HINT"),
        (["-extensions", "some.so"], "add_extension"),
        (["-m", "gone.blob"], "gone.blob"),
        (["-m", "small.blob", "-b", "1"], "a .blob is compiled; leave out -b."),
    ],
)
def test_a_wrong_option_is_one_line(
    capsys: pytest.CaptureFixture[str], model: str, arguments: list[str], complaint: str
) -> None:
    assert complaint in fails(capsys, "-m", model, "-niter", "2", *arguments)


def test_what_was_cut_is_said(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-b", "1", "-niter", "1", "-nthreads", "1000", "-c", "gpu.xml")
    assert re.search(r"WARNING \] -nthreads 1000 is more than can be used here; there are \d+ threads\.", output)
    assert "WARNING ] -c has no effect" in output
