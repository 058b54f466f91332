"""The command line without a device: options, errors, figures, layout of what is printed."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from onnx import helper
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.cli.benchmark import command as benchmark
from cpuruntime.cli.devices import ranges
from cpuruntime.cli.inputs import random_array
from cpuruntime.cli.main import COMMANDS, main
from cpuruntime.cli.model_options import batched_shapes
from cpuruntime.cli.parser import boolean, parse_per_device, parse_shapes


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
    assert parse("-max_irate 0").maximum_inference_rate is None


def test_all_options_are_read() -> None:
    options = parse(
        "-m x.onnx -d REFERENCE -hint tput -api sync -niter 7 -t 3 -nireq 2 -nstreams 2 -nthreads 1 -pin NO "
        "-shape [1,8] -b 4 -infer_precision f32 -latency_percentile 99.9 -pc -max_irate 50 -data_shape [1,8] "
        "-layout [NC] -i a.npy b -i c:d -inference_only NO -no_warmup -cdir k -lfile -load_config l "
        "-dump_config d -extensions e -c c -pcsort sort -pcseq -report_type no_counters -report_folder r -json_stats "
        "-exec_graph_path g --trace t.json --load open:20"
    )
    assert options.path_to_model == "x.onnx"
    assert (options.number_iterations, options.time, options.number_infer_requests) == (7, 3, 2)
    assert (options.number_streams, options.number_threads, options.infer_threads_pinning) == ("2", 1, False)
    assert (options.shape, options.batch_size, options.infer_precision) == ("[1,8]", 4, "f32")
    assert (options.latency_percentile, options.perf_counts, options.perf_counts_sort) == (99.9, True, "sort")
    assert (options.maximum_inference_rate, options.data_shape, options.layout) == (50.0, "[1,8]", "[NC]")
    assert options.paths_to_input == [["a.npy", "b"], ["c:d"]]
    assert (options.inference_only, options.no_warmup) == (False, True)
    assert (options.load_from_file, options.pcseq) == (True, True)
    assert [str(path) for path in (options.cache_dir, options.load_config, options.dump_config)] == ["k", "l", "d"]
    assert (options.report_type, str(options.report_folder), options.json_stats) == ("no_counters", "r", True)
    assert (str(options.exec_graph_path), str(options.trace)) == ("g", "t.json")
    assert str(options.load) == "open:20 (Poisson)"


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
        (["-latency_percentile", "101"], "'101' must be a number from 1 to 100"),
        (["-latency_percentile", "0"], "'0' must be a number from 1 to 100"),
        (["-hint", "latencyy"], "invalid choice: 'latencyy'. Did you mean 'latency'? Choose from 'throughput'"),
        (["-max_irate", "-1"], "-max_irate"),
        (["-ip", "f99"], "argument -ip/--input_precision: invalid choice: 'f99'"),
        (["--load", "open"], "argument --load: the RATE of 'open' must be a number greater than 0"),
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


def test_a_new_batch_reaches_the_inputs_that_share_it() -> None:
    shapes = batched_shapes(model_of(image=[1, 3, 8, 8], mask=[1, 8], boxes=[100, 4]), 5)
    assert {name: str(shape) for name, shape in shapes.items()} == {"image": "[5,3,8,8]", "mask": "[5,8]"}
    with pytest.raises(ov.InvalidArgumentError, match=r"-b 5: .* no dimension"):
        batched_shapes(model_of(scalar=[]), 5)
