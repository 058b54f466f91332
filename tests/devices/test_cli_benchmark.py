"""`cpuruntime benchmark` and `cpuruntime devices` from end to end, on devices."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import helper
from support.command import fails, run
from support.onnx_models import make_model, one_input

import cpuruntime as ov
from cpuruntime.cli.devices import in_words
from cpuruntime.cli.main import main
from cpuruntime.host.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The path of a small model: y[?, 4] = relu(x[?, 8] @ w), with the batch open."""
    weights = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"], "product"), helper.make_node("Relu", ["xw"], ["y"], "relu")]
    model = make_model(nodes, {"x": ["n", 8]}, {"y": ["n", 4]})
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    return str(path)


@pytest.fixture(params=["REFERENCE", "CPU"])
def device(request: pytest.FixtureRequest) -> str:
    """Each device that the command must work with."""
    return request.param


def figure(output: str, name: str) -> float:
    match = re.search(rf"{name}: +([\d.]+)", output)
    assert match, f"{name} is missing in\n{output}"
    return float(match[1])


@pytest.mark.parametrize("api", ["sync", "async"])
def test_all_steps_and_figures_are_printed(
    capsys: pytest.CaptureFixture[str], model: str, device: str, api: str
) -> None:
    output = run(capsys, "-m", model, "-d", device, "-b", "1", "-api", api, "-niter", "400")
    assert re.findall(r"^\[Step (\d+)/11\]", output, re.MULTILINE) == [str(number) for number in range(1, 12)]
    assert f"Start inference {api}hronously" in output
    assert figure(output, "Count") >= 400
    low, median, high = (figure(output, name) for name in ("Min", "Median", "Max"))
    assert low <= median <= high
    assert low <= figure(output, "Average") <= high
    expected = 1000 * figure(output, "Count") / figure(output, "Duration")
    assert figure(output, "Throughput") == pytest.approx(expected, rel=0.05)
    assert f"Execution Devices:['{device}']" in output


def test_throughput_counts_the_batch(capsys: pytest.CaptureFixture[str], model: str, device: str) -> None:
    output = run(capsys, "-m", model, "-d", device, "-b", "16", "-api", "sync", "-niter", "400")
    assert "Model batch size: 16" in output
    assert "x (node: x) : f32 / [...] / [16,8]" in output
    expected = 16 * 1000 * 400 / figure(output, "Duration")
    assert figure(output, "Throughput") == pytest.approx(expected, rel=0.05)


def test_time_limits_the_measuring(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-d", "REFERENCE", "-b", "1", "-t", "1")
    assert "limits: 1000 ms duration)" in output
    assert 1000 <= figure(output, "Duration") < 5000


def test_iterations_are_aligned_to_the_requests(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-d", "REFERENCE", "-b", "1", "-nireq", "3", "-niter", "7")
    assert "aligned by request number from 7 to 9 using number of requests 3" in output
    assert "3 inference requests" in output
    assert figure(output, "Count") == 9


def test_no_iterations_compile_only(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-d", "REFERENCE", "-niter", "0")
    assert "Skipping inference due to -niter 0" in output
    assert "[Step 10/11] Measuring performance (skipped)" in output
    assert "Throughput" not in output


def test_the_hint_is_set_with_a_warning_when_none_is_given(capsys: pytest.CaptureFixture[str], model: str) -> None:
    for api, hint in (("sync", "LATENCY"), ("async", "THROUGHPUT")):
        output = run(capsys, "-m", model, "-d", "REFERENCE", "-api", api, "-niter", "0")
        said = "Performance hint was not explicitly specified in command line or config file. Device(REFERENCE)"
        assert said in output
        assert f"will be set to {hint}" in output
    assert "WARNING" not in run(capsys, "-m", model, "-d", "REFERENCE", "-hint", "none", "-niter", "0")


def test_explicit_streams_win_over_the_hint(capsys: pytest.CaptureFixture[str], model: str, device: str) -> None:
    arguments = ["-m", model, "-d", device, "-b", "1", "-niter", "2", "-nstreams", f"{device}:1"]
    output = run(capsys, *arguments, "-hint", "throughput")
    assert "NUM_STREAMS given explicitly; the hint THROUGHPUT decides the rest." in output
    assert re.search(r"^\[ INFO \]   NUM_STREAMS: 1$", output, re.MULTILINE)


def test_the_profile_is_printed_on_request(capsys: pytest.CaptureFixture[str], model: str, device: str) -> None:
    arguments = ["-m", model, "-d", device, "-b", "20000", "-niter", "4"]  # times are in whole microseconds
    assert "kernel" not in run(capsys, *arguments).partition("[Step 11/11]")[2]
    output = run(capsys, *arguments, "-pc")
    lines = [line.removeprefix("[ INFO ] ") for line in output.partition("[Step 11/11]")[2].splitlines()]
    header = next(index for index, line in enumerate(lines) if line.startswith("node "))
    total = next(index for index, line in enumerate(lines) if line.startswith("Total "))
    assert total > header + 1
    assert "MatMul" in lines[header + 1] + lines[header + 2] or "FullyConnected" in lines[header + 1]
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[header + 1 : total]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_the_decisions_and_fallbacks_are_printed(capsys: pytest.CaptureFixture[str], model: str) -> None:
    output = run(capsys, "-m", model, "-d", "REFERENCE", "-b", "1", "-niter", "1")
    assert "[ INFO ] Decisions:" in output
    assert "[ WARNING ] 2 of 2 steps have no kernel and run slowly: 1 MatMul, 1 Relu" in output


def test_a_light_model_runs_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    output = run(capsys, "-m", "light:squeezenet", "-d", "CPU", "-niter", "1", "-hint", "latency")
    assert "[1,3,224,224]" in output
    assert "WARNING" not in output


def test_an_open_shape_is_refused_with_the_remedy(capsys: pytest.CaptureFixture[str], model: str) -> None:
    line = fails(capsys, "-m", model, "-d", "REFERENCE", "-niter", "1")
    assert "Input 'x' has the dynamic shape [?,8]" in line
    assert "-shape" in line
    assert "-b" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-d", "REFERENCE", "-shape", "y[1,8]"], "-shape names 'y'"),
        (["-d", "REFERENCE", "-shape", "x[1,9]"], "9"),
        (["-d", "REFERENCE", "-shape", "x[1,b]"], "b"),
        (["-d", "REFERENC"], "Did you mean 'REFERENCE'?"),
        (["-d", "REFERENCE", "-infer_precision", "i8"], "INFERENCE_PRECISION_HINT"),
        (["-d", "REFERENCE", "-nstreams", "many"], "NUM_STREAMS"),
    ],
)
def test_a_wrong_value_is_one_line(
    capsys: pytest.CaptureFixture[str], model: str, arguments: list[str], complaint: str
) -> None:
    assert complaint in fails(capsys, "-m", model, "-niter", "1", *arguments)


def test_a_wrong_model_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    assert "gone.onnx" in fails(capsys, "-m", "gone.onnx", "-d", "REFERENCE")
    assert "text.onnx" in fails(capsys, "-m", str(text), "-d", "REFERENCE")
    assert "Did you mean 'resnet50'?" in fails(capsys, "-m", "light:resnet51", "-d", "REFERENCE")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`cpuruntime` in a process of its own."""
    line = [sys.executable, "-m", "cpuruntime", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(line, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=100)


def test_the_command_as_a_process(model: str) -> None:
    done = command("benchmark", "-m", model, "-d", "REFERENCE", "-b", "1", "-niter", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("[ INFO ] Throughput:")
    wrong = command("benchmark", "-m", model, "-d", "REFERENCE", "-nthread", "2")
    assert wrong.returncode == 2
    assert "Did you mean '-nthreads'?" in wrong.stderr
    assert (command("benchmark", "-m", "gone.onnx").returncode, command().returncode) == (1, 2)


def test_a_wrong_environment_variable_is_one_line(model: str) -> None:
    arguments = ["benchmark", "-m", model, "-b", "1", "-niter", "1"]
    for variable, value in (("CPURUNTIME_ISA", "avx3"), ("CPURUNTIME_NUM_STREAMS", "many")):
        done = command(*arguments, **{variable: value})
        assert done.returncode == 1
        assert re.fullmatch(rf"\[ ERROR \] (Environment variable )?{variable}\b.*{value}.*\n", done.stderr)


def test_a_reader_that_leaves_early_is_no_crash() -> None:
    line = f"'{sys.executable}' -m cpuruntime benchmark -h | head -n 1"
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("usage: cpuruntime benchmark")
    assert done.stderr == ""


def test_devices_are_listed_with_facts_or_the_reason_of_their_absence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^CPU +available", output, re.MULTILINE)
    assert re.search(r"^REFERENCE +available", output, re.MULTILINE)
    assert "FULL_DEVICE_NAME" in output
    assert not set(re.sub(r"cpuruntime\[[a-z-]+\]", "", output)) & set("[]{}")


def test_values_of_properties_in_words(ledger: Ledger) -> None:
    own = psutil.Process()
    assert in_words({0: [own.pid], 3: [own.pid, 2**22 + 1]}) == (
        f"processor 0: process {own.pid} ({own.name()}); "
        f"processor 3: process {own.pid} ({own.name()}), process {2**22 + 1}"
    )
    with ov.Core().compile_model(one_input(), "CPU", {"INFERENCE_NUM_THREADS": 1}):
        assert in_words({0: [own.pid]}) == f"processor 0: process {own.pid} ({own.name()}, model 'negation')"
    assert [in_words(value) for value in ({}, [""], [], ["A", "B"], (1, 2), (1, 4, 2), 7)] == [
        "none", "none", "none", "A, B", "1 to 2", "1 to 4 in steps of 2", "7",
    ]  # fmt: skip
