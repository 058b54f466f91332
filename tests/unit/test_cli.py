"""The command line without a device: options, errors, figures, layout of what is printed."""

from __future__ import annotations

import argparse
import io
import logging
import re
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from onnx import helper
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.cli import benchmark
from cpuruntime.cli.devices import ranges
from cpuruntime.cli.inputs import random_array
from cpuruntime.cli.main import COMMANDS, main
from cpuruntime.cli.measure import Limits, Measurement, measure_async, measure_sync
from cpuruntime.cli.model_options import batched_shapes
from cpuruntime.cli.parser import boolean, parse_per_device, parse_shapes
from cpuruntime.cli.report import Progress, Report, profile_rows, profile_table
from cpuruntime.devices.explanation import Row


def parse(line: str) -> argparse.Namespace:
    return benchmark.parser().parse_args(line.split())


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of a command line that must be refused as wrong usage."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_defaults_are_benchmark_app_s() -> None:
    options = parse("")
    assert (options.path_to_model, options.target_device) == ("light:resnet50", "CPU")
    assert (options.perf_hint, options.api_type, options.time, options.number_iterations) == (None,) * 4
    assert (options.latency_percentile, options.perf_counts, options.batch_size) == (50, False, None)


def test_all_options_are_read() -> None:
    options = parse(
        "-m x.onnx -d REFERENCE -hint tput -api sync -niter 7 -t 3 -nireq 2 -nstreams 2 -nthreads 1 -pin NO "
        "-shape [1,8] -b 4 -infer_precision f32 -latency_percentile 90 -pc"
    )
    assert options.path_to_model == "x.onnx"
    assert (options.number_iterations, options.time, options.number_infer_requests) == (7, 3, 2)
    assert (options.number_streams, options.number_threads, options.infer_threads_pinning) == ("2", 1, False)
    assert (options.shape, options.batch_size, options.infer_precision) == ("[1,8]", 4, "f32")
    assert (options.latency_percentile, options.perf_counts) == (90, True)


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [("-nthread", "-nthreads"), ("-mdoel", "--path_to_model"), ("-hnt", "-hint"), ("--tiem", "--time"), ("-tt", None)],
)
def test_a_mistyped_option_is_never_read_as_another(
    capsys: pytest.CaptureFixture[str], mistyped: str, meant: str | None
) -> None:
    line = fails(capsys, "benchmark", mistyped, "1")
    assert line.startswith(f"cpuruntime benchmark: error: unknown option '{mistyped}'")
    if meant in ("-nthreads", "-hint", "--time"):
        assert f". Did you mean '{meant}'? 'cpuruntime benchmark -h' lists the options.\n" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-t", "0"], "argument -t/--time: '0' must be a whole number of at least 1"),
        (["-niter", "-1"], "-niter"),
        (["-niter", "x"], "'x' must be a whole number of at least 0"),
        (["-latency_percentile", "101"], "'101' must be a whole number from 1 to 100"),
        (["-latency_percentile", "0"], "'0' must be a whole number of at least 1"),
        (["-hint", "fast"], "invalid choice: 'fast'"),
        (["-pin", "maybe"], "'maybe' is no boolean; give YES or NO"),
        (["-m"], "argument -m/--path_to_model: expected one argument"),
        (["model.onnx"], "unrecognized arguments: model.onnx"),
    ],
)
def test_a_wrong_value_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    assert complaint in fails(capsys, "benchmark", *arguments)


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown command 'benchmrk'. Did you mean 'benchmark'?" in fails(capsys, "benchmrk")
    assert "a command is missing" in fails(capsys)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("-h", "--help", "help"):
        assert main([word]) == 0
        usage = capsys.readouterr().out
        assert all(name in usage for name in COMMANDS)
    for word in ("-V", "--version", "version"):
        assert main([word]) == 0
        assert capsys.readouterr().out == f"cpuruntime {ov.get_version()}\n"
    assert "unknown option '--version'; 'cpuruntime --version' prints it." in fails(capsys, "benchmark", "--version")
    assert main(["benchmark", "-h"]) == 0
    usage = capsys.readouterr().out
    assert "-latency_percentile" in usage
    assert "Available devices: " in usage


def test_every_error_of_the_package_becomes_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (ov.ModelError("bad\nmodel"), PermissionError("no access")):

        def fail(_: argparse.Namespace, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(benchmark, "run", fail)
        assert main(["benchmark"]) == 1
        assert capsys.readouterr().err == f"[ ERROR ] {' '.join(str(error).split())}\n"


def test_a_file_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--topology", "gone.json"]) == 1
    assert capsys.readouterr().err == "[ ERROR ] There is no topology file gone.json.\n"
    assert main(["plan", "--record", "gone/it.json"]) == 1
    assert capsys.readouterr().err == "[ ERROR ] gone/it.json: No such file or directory.\n"


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: argparse.Namespace) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(benchmark, "run", fail)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["benchmark"])


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "run", interrupt)
    assert main(["benchmark"]) == 130
    assert capsys.readouterr().err == "[ ERROR ] Interrupted.\n"


def test_shapes() -> None:
    assert parse_shapes("", ["a"]) == {}
    assert parse_shapes("a[1,3,224..448,?], b[1,4]", ["a", "b"]) == {"a": "[1,3,224..448,?]", "b": "[1,4]"}
    assert parse_shapes("[1,-1]", ["a", "b"]) == {"a": "[1,-1]", "b": "[1,-1]"}
    assert parse_shapes("x/y:0[2]", ["x/y:0"]) == {"x/y:0": "[2]"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("imput[1]", "names 'imput'.* inputs are 'input', 'mask'.* Did you mean 'input'"),
        ("input", "cannot be read at 'input'"),
        ("input[1]mask[2]", "cannot be read"),
        ("input[1", "cannot be read"),
    ],
)
def test_wrong_shapes_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ov.InvalidArgumentError, match=complaint):
        parse_shapes(text, ["input", "mask"])


def test_values_per_device() -> None:
    assert parse_per_device("-nstreams", "4", "CPU") == "4"
    assert parse_per_device("-nstreams", "GPU:2,CPU:AUTO", "CPU") == "AUTO"
    for text in ("GPU:2", "CPU:", "4,GPU:2"):
        with pytest.raises(ov.InvalidArgumentError, match="-nstreams"):
            parse_per_device("-nstreams", text, "CPU")


def test_booleans() -> None:
    assert [boolean(text) for text in ("YES", "true", "1", "no", "F")] == [True, True, True, False, False]


def test_limits() -> None:
    both = Limits(seconds=2.0, iterations=10)
    assert not both.reached(3.0, 9)
    assert not both.reached(1.9, 11)
    assert both.reached(2.0, 10)
    assert both.share_done(1.0, 10) == 0.5
    assert str(both) == "2000 ms duration, 10 iterations"
    assert Limits(iterations=10).aligned(4) == Limits(iterations=12)
    assert Limits(seconds=1.0).aligned(4) == Limits(seconds=1.0)


def test_the_percentile_is_the_least_latency_that_so_many_do_not_exceed() -> None:
    measured = Measurement(2.0, [float(value) for value in range(1, 11)])
    assert [measured.percentile(percent) for percent in (1, 10, 11, 50, 90, 100)] == [1, 1, 2, 5, 9, 10]
    assert Measurement(1.0, [3.0]).percentile(1) == 3.0
    assert measured.average == 5.5
    assert measured.throughput(batch=4) == 20.0


class FakeRequest:
    """Each inference has the next latency of a list."""

    def __init__(self, latencies: Sequence[float]) -> None:
        self._latencies = iter(latencies)
        self.latency = 0.0

    def infer(self) -> None:
        self.latency = next(self._latencies)


class FakeQueue:
    """Two requests that are idle in turns; `log` holds the order in which they were started."""

    def __init__(self) -> None:
        self.requests = [FakeRequest([1.0, 3.0, 5.0]), FakeRequest([2.0, 4.0, 6.0])]
        self.log: list[int] = []

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> FakeRequest:
        return self.requests[index]

    def get_idle_request_id(self) -> int:
        return len(self.log) % 2

    def start_async(self) -> None:
        index = self.get_idle_request_id()
        self.requests[index].infer()
        self.log.append(index)

    def wait_all(self) -> None:
        self.log.append(-1)


def test_the_synchronous_loop_records_every_inference() -> None:
    seen: list[int] = []
    measured = measure_sync(FakeRequest([3.0, 1.0, 2.0]), Limits(iterations=3), lambda _, count: seen.append(count))
    assert measured.latencies == [1.0, 2.0, 3.0]
    assert seen == [1, 2, 3]


def test_the_asynchronous_loop_drains_and_runs_each_request_equally_often() -> None:
    queue = FakeQueue()
    measured = measure_async(queue, Limits(iterations=5), lambda seconds, count: None)
    assert queue.log == [0, 1, 0, 1, 0, 1, -1]
    assert measured.latencies == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_at_least_one_inference_is_measured_however_slow() -> None:
    assert measure_sync(FakeRequest([7.0]), Limits(seconds=1e-9), lambda *_: None).iterations == 1


def printed(measured: Measurement, percent: int = 50) -> list[str]:
    stream = io.StringIO()
    Report(stream).results(measured, percent=percent, batch=2, devices=["CPU"])
    return stream.getvalue().splitlines()


def test_the_closing_figures_are_laid_out_as_benchmark_app_s() -> None:
    assert printed(Measurement(0.5, [2.0, 4.0, 9.0])) == [
        "[ INFO ] Execution Devices:['CPU']",
        "[ INFO ] Count:            3 iterations",
        "[ INFO ] Duration:         500.00 ms",
        "[ INFO ] Latency:",
        "[ INFO ]    Median:        4.00 ms",
        "[ INFO ]    Average:       5.00 ms",
        "[ INFO ]    Min:           2.00 ms",
        "[ INFO ]    Max:           9.00 ms",
        "[ INFO ] Throughput:   12.00 FPS",
    ]


def test_short_latencies_are_in_microseconds_and_percentiles_named() -> None:
    lines = printed(Measurement(0.5, [0.5, 0.75]), percent=90)
    assert lines[4] == "[ INFO ]    90 percentile:     750.00 us"


def test_progress_without_a_terminal_is_a_line_for_every_fifth() -> None:
    stream = io.StringIO()
    progress = Progress(Report(stream), Limits(seconds=10.0))
    for second in range(11):
        progress(float(second), 10 * second)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [re.search(r"(\d+)%", line)[1] for line in lines] == ["20", "40", "60", "80", "100"]
    assert lines[0] == "[ INFO ] Progress:  20%, 2.0 s, 20 iterations"


def test_progress_on_a_terminal_is_a_bar_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    progress = Progress(Report(stream), Limits(iterations=4))
    progress(1.0, 2)
    progress(1.1, 3)
    progress.close()
    assert stream.getvalue() == f"\r[{'#' * 15}{'.' * 15}]  50%, 1.0 s, 2 iterations \r\x1b[K"


def profile(name: str, microseconds: int, status: str = "EXECUTED") -> ov.ProfilingInfo:
    time = timedelta(microseconds=microseconds)
    return ov.ProfilingInfo(ov.ProfilingInfo.Status[status], time, time, name, "Conv", "direct")


def test_the_profile_is_the_mean_over_the_requests_by_falling_time() -> None:
    rows = profile_rows(
        [[profile("a", 10), profile("b", 30), profile("c", 9, "NOT_RUN")], [profile("a", 10), profile("b", 50)]]
    )
    assert [(row.node, row.microseconds, row.share) for row in rows] == [("b", 40.0, 0.8), ("a", 10.0, 0.2)]
    table = profile_table(rows)
    assert [line.split() for line in table] == [
        ["node", "type", "kernel", "time", "(ms)", "share"],
        ["b", "Conv", "direct", "0.040", "80.00%"],
        ["a", "Conv", "direct", "0.010", "20.00%"],
        ["Total", "0.050", "100.00%"],
    ]
    assert len({len(line) for line in table}) == 1


def test_an_empty_profile_has_a_table() -> None:
    assert profile_table(profile_rows([]))[-1].split() == ["Total", "0.000", "100.00%"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int64, np.bool_])
def test_random_inputs_suit_their_type_and_repeat(dtype: type) -> None:
    first, second = (random_array((1000,), np.dtype(dtype), np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == dtype
    assert np.array_equal(first, second)
    assert len(np.unique(first)) > 1
    assert first.min() >= 0
    assert first.max() <= 255


def test_ranges_of_processors() -> None:
    assert ranges([0]) == "0"
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges([]) == ""


def model_of(**inputs: list[int | str]) -> ov.Model:
    """A model that passes each of its inputs through."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    outputs = {f"{name}_out": shape for name, shape in inputs.items()}
    return ov.Core().read_model(make_model(nodes, dict(inputs), dict(outputs)))


def test_the_batch_is_the_first_dimension_that_the_inputs_share() -> None:
    assert benchmark.batch_of(model_of(image=[4, 3, 8, 8], mask=[4, 8], threshold=[1])) == 4
    assert benchmark.batch_of(model_of(image=[4, 3, 8, 8], boxes=[100, 4])) == 1
    assert benchmark.batch_of(model_of(image=["n", 3])) == 1
    assert benchmark.batch_of(model_of(signal=[16])) == 1


def test_a_new_batch_reaches_the_inputs_that_share_it() -> None:
    shapes = batched_shapes(model_of(image=[1, 3, 8, 8], mask=[1, 8], boxes=[100, 4]), 5)
    assert {name: str(shape) for name, shape in shapes.items()} == {"image": "[5,3,8,8]", "mask": "[5,8]"}
    with pytest.raises(ov.InvalidArgumentError, match=r"-b 5: .* no dimension"):
        batched_shapes(model_of(scalar=[]), 5)


def test_steps_without_a_kernel_are_summed_up_by_operator() -> None:
    rows = [Row((f"n{index}",), "Loop", "numpy", fallback=True) for index in range(4)]
    rows += [Row(("a", "b"), "Det", "numpy", fallback=True), Row(("c",), "Conv", "direct")]
    summary = benchmark.fallback_summary(ov.Explanation("CPU", rows))
    assert summary == "5 of 6 steps have no kernel and run slowly: 4 Loop, 1 Det"
    assert benchmark.fallback_summary(ov.Explanation("CPU", rows[-1:])) == ""


def test_the_log_is_part_of_the_report() -> None:
    stream, log = io.StringIO(), logging.getLogger("cpuruntime.streams")
    with Report(stream).log_included():
        log.warning("not pinned: %s", "EPERM")
    log.warning("later")
    assert stream.getvalue() == "[ WARNING ] not pinned: EPERM\n"
