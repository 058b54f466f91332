"""`cpuruntime plan` and `cpuruntime properties` from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from support.machines import machine
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime.cli.main import main
from cpuruntime.properties import PROPERTIES
from cpuruntime.streams.processors import Cache


@pytest.fixture
def hybrid(tmp_path: Path) -> str:
    """The file that describes a machine with fast and slow cores."""
    path = tmp_path / "hybrid.json"
    path.write_text(machine([[20, 6, 8, 6, 0, 0]], caches=(Cache(3, 2**25, tuple(range(20))),)).to_json())
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    onnx.save(one_input(), path)
    return str(path)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["plan", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_a_plan_for_a_described_machine(capsys: pytest.CaptureFixture[str], hybrid: str, model: str) -> None:
    lines = output(capsys, "-m", model, "--topology", hybrid, "-hint", "throughput", "-nstreams", "5", "-nireq", "4")
    assert lines[:5] == [
        "4 streams, 16 threads, pinned",
        "streams  core type  threads  node  socket  cpus",
        "0        P          4        0     0       0-3",
        "1-2      E          4        0     0       6-9  10-13",
        "3        HT         4        0     0       14-17",
    ]
    assert any("NUM_STREAMS is 5, PERFORMANCE_HINT_NUM_REQUESTS 4" in line for line in lines[5:])


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ("", "1 stream, 6 threads, pinned"),
        ("-hint none -pin NO -nthreads 3", "1 stream, 3 threads, not pinned"),
        ("-hint ctput -nstreams CPU:3", "3 streams, 18 threads, pinned"),
        ("-nstreams 0", "no streams: inferences run in the thread that asks for them"),
        ("-shape [7,3] -b 2 -hint latency", "1 stream, 6 threads, pinned"),
    ],
)
def test_options_are_the_benchmark_s(
    capsys: pytest.CaptureFixture[str], hybrid: str, model: str, options: str, first: str
) -> None:
    assert output(capsys, "-m", model, "--topology", hybrid, *options.split())[0] == first


def test_the_environment_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hybrid: str, model: str
) -> None:
    monkeypatch.setenv("CPURUNTIME_SCHEDULING_CORE_TYPE", "ECORE_ONLY")
    assert output(capsys, "-m", model, "--topology", hybrid)[0] == "1 stream, 8 threads, pinned"


def test_this_machine_is_recorded_and_planned_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str
) -> None:
    file = tmp_path / "this.json"
    assert output(capsys, "--record", str(file)) == [f"This machine is described in {file}."]
    here = output(capsys, "-m", model, "-hint", "throughput")
    assert output(capsys, "-m", model, "-hint", "throughput", "--topology", str(file)) == here
    compiled = ov.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    assert here[0].startswith(f"{compiled.get_property('NUM_STREAMS')} stream")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{}", "Topology: the topology has no field 'cores'."), ("?", "The topology is not JSON"), (None, "No such file")],
)
def test_a_bad_description(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, text: str | None, complaint: str
) -> None:
    file = tmp_path / "bad.json"
    if text is not None:
        file.write_text(text)
    assert main(["plan", "-m", model, "--topology", str(file)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert str(file) in error


def test_a_model_of_open_shapes(capsys: pytest.CaptureFixture[str], hybrid: str, tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    onnx.save(one_input(("n", 3)), path)
    lines = output(capsys, "-m", str(path), "--topology", hybrid, "-hint", "throughput")
    assert lines[0] == "6 streams, 18 threads, pinned"
    assert any("its demand is not known" in line for line in lines)


def test_a_device_without_streams_has_no_plan(model: str) -> None:
    with pytest.raises(ov.UnsupportedError, match="device REFERENCE has no streams"):
        ov.Core().plan_streams(model, "REFERENCE")


@pytest.mark.parametrize("topology", ["x", {}, 3])
def test_a_topology_of_another_type(model: str, topology: Any) -> None:
    with pytest.raises(ov.InvalidArgumentError, match=r"plan_streams: topology is .*; it must be a Topology"):
        ov.Core().plan_streams(model, "CPU", {}, topology)


def test_every_property_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["properties"]) == 0
    text = capsys.readouterr().out
    for name, declaration in PROPERTIES.items():
        assert f"\n{name}  {declaration.mutability}  " in text
        assert declaration.doc.split(".")[0].split()[-1] in text
    assert "ENABLE_CPU_PINNING  RW  True or False, or YES, NO, TRUE, FALSE as text; default YES\n" in text
    assert main(["properties", "-x"]) == 2
