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
from cpuruntime.devices.cpu.streams import calibration
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.ledger import Ledger
from cpuruntime.host.processors import Cache
from cpuruntime.properties import PROPERTIES
from cpuruntime.store import Folder

several = pytest.mark.skipif(ov.Topology.read().usable < 2, reason="needs two processors")


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


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> Path:
    """The folder of measurements; the ledger has one of its own."""
    monkeypatch.setattr(calibration, "cache_folder", lambda: Folder(tmp_path))
    return tmp_path


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
        "3        HT         4        0     0       14-15,18-19",
    ]
    assert "CPUs 18-19 are taken instead of 16-17: their cores have fewer threads of this model" in lines
    assert any("NUM_STREAMS is 5, PERFORMANCE_HINT_NUM_REQUESTS 4" in line for line in lines[5:])


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ("", "1 stream, 6 threads, pinned"),
        ("-hint none -pin NO -nthreads 3", "1 stream, 3 threads, not pinned"),
        ("-hint ctput -nstreams CPU:3", "3 streams, 18 threads, pinned"),
        ("-core_type ECORE_ONLY", "1 stream, 8 threads, pinned"),
        ("-ht YES", "1 stream, 12 threads, pinned"),
        ("-hint throughput -nstreams 20 -ht NO", "14 streams, 14 threads, pinned"),
        ("-nthreads 8 -reserve YES", "1 stream, 8 threads, pinned"),
        ("-nthreads 8 -reserve NO", "1 stream, 8 threads, not pinned"),
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


CONFIGS = [
    {},
    {"INFERENCE_NUM_THREADS": 1},
    {"PERFORMANCE_HINT": "THROUGHPUT"},
    {"NUM_STREAMS": 0},
    {"ENABLE_CPU_PINNING": False},
    {"ENABLE_CPU_RESERVATION": True, "INFERENCE_NUM_THREADS": 1},
]


@several
@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("is_reserved", [False, True])
def test_a_plan_is_what_compiling_makes_beside_other_models(
    model: str, config: dict[str, Any], is_reserved: bool
) -> None:
    core = ov.Core()
    other = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_RESERVATION": is_reserved})
    plan = core.plan_streams(model, "CPU", config)
    compiled = core.compile_model(model, "CPU", config)
    assert compiled.get_property("PINNED_CPUS") == ([list(share) for share in plan.shares] if plan.pin else [])
    assert set(plan.sentences()) <= set(compiled.explain().decisions)
    del other


@several
def test_a_plan_fails_as_compiling_does(capsys: pytest.CaptureFixture[str], model: str) -> None:
    other = ov.Core().compile_model(model, "CPU", {"ENABLE_CPU_RESERVATION": True})
    assert main(["plan", "-m", model]) == 1
    assert "reserved by this process (model 'negation')" in capsys.readouterr().err
    del other
    assert main(["plan", "-m", model, "-reserve", "YES", "-pin", "NO"]) == 1
    assert "ENABLE_CPU_RESERVATION needs pinned threads" in capsys.readouterr().err


@several
def test_a_plan_follows_the_quota_that_is_spent(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuruntime.host.topology.cpu_quota", lambda root: Quota(1.0, 77))
    core = ov.Core()
    other = core.compile_model(model, "CPU")
    plan = core.plan_streams(model, "CPU")
    assert [list(share) for share in plan.shares] == other.get_property("PINNED_CPUS")
    assert "models use no more processors than the control group's CPU quota allows" in str(plan)


CALIBRATED = {"PERFORMANCE_HINT": "THROUGHPUT", "STREAMS_CALIBRATION_MS": 7}
CAVEAT = "STREAMS_CALIBRATION_MS is 7: compiling measures other streams, too, and takes the best"


@several
def test_what_was_measured_before_is_planned_with(
    model: str, hybrid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = ov.Core()
    assert core.plan_streams(model, "CPU", CALIBRATED).reasons[-1] == CAVEAT
    monkeypatch.setattr(calibration, "measure", lambda trials, plans, budget: [1.0, 9.0] + [1.0] * (len(plans) - 2))
    with core.compile_model(model, "CPU", CALIBRATED) as compiled:
        measured = compiled.get_property("PINNED_CPUS")
    plan = core.plan_streams(model, "CPU", CALIBRATED)
    assert [list(share) for share in plan.shares] == measured
    assert plan.shares != core.plan_streams(model, "CPU", {**CALIBRATED, "STREAMS_CALIBRATION_MS": 0}).shares
    assert any("is the best, measured before" in reason for reason in plan.reasons)
    assert CAVEAT not in plan.reasons
    elsewhere = core.plan_streams(model, "CPU", CALIBRATED, ov.Topology.from_json(Path(hybrid).read_text()))
    assert elsewhere.reasons[-1] == CAVEAT, "nothing is known of another machine"


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 20}, 1),
        ({"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 20, "STREAMS_CALIBRATION_MS": 7}, 1),
        ({"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 20, "NUM_STREAMS": 2}, 0),
        ({"LATENCY_TARGET_MS": 20}, 0),
        ({"STREAMS_CALIBRATION_MS": 7, "NUM_STREAMS": 0}, 0),
        ({"STREAMS_CALIBRATION_MS": 7, "INFERENCE_NUM_THREADS": 1}, 0),
        ({"STREAMS_CALIBRATION_MS": 7}, 1),
    ],
)
def test_what_only_measuring_shows_is_said(model: str, hybrid: str, config: dict[str, Any], count: int) -> None:
    plan = ov.Core().plan_streams(model, "CPU", config, ov.Topology.from_json(Path(hybrid).read_text()))
    assert sum("compiling measures" in reason for reason in plan.reasons) == count


def test_a_latency_target_of_the_environment_is_mentioned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("CPURUNTIME_LATENCY_TARGET_MS", "20")
    assert output(capsys, "-m", model, "-hint", "throughput")[-1] == (
        "LATENCY_TARGET_MS is 20: compiling measures streams of other sizes on these processors, too, and the load "
        "decides which are used"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "Topology: the topology has no field 'cores'."),
        ("?", "The topology is not JSON"),
        (None, "There is no topology file"),
    ],
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
    assert "ENABLE_CPU_RESERVATION  RW  True or False, or YES, NO, TRUE, FALSE as text; default NO\n" in text
    assert main(["properties", "-x"]) == 2


def test_defaults_that_a_device_decides_are_listed_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["properties"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, words in (
        ("NUM_STREAMS", "by the hint"),
        ("ENABLE_HYPER_THREADING", "by the hint"),
        ("ENABLE_CPU_PINNING", "YES except for one stream on P and E cores"),
    ):
        declaration = PROPERTIES[name]
        assert f" {name} RW {declaration.values.rule}; default {words} {declaration.doc}" in text
