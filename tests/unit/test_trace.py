"""Recorders and the timeline file: rings, tracks, what a full ring drops, and where files cannot be written."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import cpuruntime as ov
from cpuruntime.trace import events, recorder, timeline
from cpuruntime.trace.events import Inference, Rings, StepLabel
from cpuruntime.trace.recorder import flush, mark, opened, span

MM = StepLabel("mm", "MatMul", "tile", flops=2_000)


def inference(number: int, began: int = 2_000, request: int = 1, **changes: Any) -> Inference:
    known: dict[str, Any] = {
        "number": number, "group": 0, "request": request, "started": began - 1_000, "taken": began - 500,
        "began": began, "ended": began + 3_000, "stream": "stream 0 (CPU 3)", "first": began + 100,
        "steps": [([MM], [1_000])], "error": "",
    }  # fmt: skip
    return Inference(**known | changes)


def written(rings: Rings) -> list[dict[str, Any]]:
    return json.loads("".join(timeline.lines(rings)))["traceEvents"]


@pytest.fixture
def rings() -> Rings:
    made = Rings(began=0)
    made.groups.append("CPU: m")
    return made


@pytest.fixture
def opened_one(tmp_path: Path) -> Iterator[recorder.Recorder]:
    one = opened(str(tmp_path / "t.json"))
    yield one
    one.close()


def test_an_inference_is_drawn_with_its_phases_and_steps(rings: Rings) -> None:
    rings.inferences.append(inference(1))
    slices = [(e["name"], e["ts"], e["dur"]) for e in written(rings) if e["ph"] == "X"]
    assert slices == [
        ("inference 1", 1.0, 4.0), ("queued", 1.0, 0.5), ("bound", 1.5, 0.5), ("executed", 2.0, 3.0),
        ("inference 1", 2.0, 3.0), ("MatMul mm", 2.1, 1.0),
    ]  # fmt: skip
    assert {e["args"]["name"] for e in written(rings) if e["ph"] == "M"} == {
        "cpuruntime", "CPU: m", "request 1", "stream 0 (CPU 3)",
    }  # fmt: skip
    assert [e["args"]["GFLOP/s"] for e in written(rings) if e["name"] == "MatMul mm"] == [2.0]


@pytest.mark.parametrize(
    "changes",
    [{"taken": 0}, {"began": 0}, {"taken": 0, "began": 0}, {"ended": 0}, {"first": 0}, {"began": 99_000}],
)
def test_moments_that_never_came_leave_phases_in_order(rings: Rings, changes: dict[str, Any]) -> None:
    rings.inferences.append(inference(1, **changes))
    own = {e["name"]: e for e in written(rings) if e["ph"] == "X" and e["tid"] == 100}
    whole, phases = own["inference 1"], [own[name] for name in ("queued", "bound", "executed")]
    ends = [phase["ts"] + phase["dur"] for phase in phases]
    assert [phase["ts"] for phase in phases] == [whole["ts"], *ends[:2]]
    assert ends[2] == whole["ts"] + whole["dur"]
    assert all(e["dur"] >= 0 for e in written(rings) if e["ph"] == "X")


def test_what_runs_at_the_same_time_without_a_known_stream_has_tracks_of_its_own(rings: Rings) -> None:
    for number, began in ((1, 2_000), (2, 3_000), (3, 5_000)):
        rings.inferences.append(inference(number, began, request=number, stream="", steps=()))
    names = {e["tid"]: e["args"]["name"] for e in written(rings) if e["ph"] == "M"}
    tracks = [names[e["tid"]] for e in written(rings) if e["ph"] == "X" and "request" in e["args"]]
    assert tracks == ["device", "device (2)", "device"]


def test_a_full_ring_drops_the_oldest_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_INFERENCES", 20)
    rings = Rings(began=0)
    for number in range(1, 31):
        rings.inferences.append(inference(number, 2_000 + 10_000 * number))
    monkeypatch.setattr(timeline, "MOST_STEPS", 5)
    text = "".join(timeline.lines(rings))
    assert json.loads(text)["otherData"] == {
        "made by": "cpuruntime", "inferences": 30, "inferences dropped": 10,
    }  # fmt: skip
    assert text.count("MatMul mm") == 5


def test_flows_lead_from_the_request_to_the_stream_and_the_callback(rings: Rings) -> None:
    rings.inferences.append(inference(1))
    rings.inferences.append(inference(2, 12_000))
    rings.callbacks.append((2, (7, "cpurt-cb0"), 15_100, 15_400))
    flows = [(e["ph"], e["id"], e["ts"]) for e in written(rings) if e["ph"] in "stf"]
    assert flows == [("s", 1, 2.0), ("f", 1, 2.0), ("s", 2, 12.0), ("t", 2, 12.0), ("f", 2, 15.1)]


def test_spans_and_moments_are_recorded_while_a_timeline_is_open(opened_one: recorder.Recorder) -> None:
    with suppress(ValueError), span("plan", model="m") as facts:
        facts["steps"] = 3
        raise ValueError
    mark("swap", to="GPU")
    opened_one.close()
    mark("later")
    found = {e["name"]: e for e in json.loads(opened_one.path.read_text())["traceEvents"] if e["ph"] in "Xi"}
    assert found.keys() == {"plan", "swap"}
    assert found["plan"]["args"] == {"model": "m", "steps": 3}
    assert found["swap"]["args"] == {"to": "GPU"}


def test_stops_by_the_quota_are_a_counter(opened_one: recorder.Recorder) -> None:
    counts = iter([4, 9, 9])
    opened_one.sampler = lambda: next(counts)
    opened_one.sample(10**9)
    opened_one.sample(10**9 + 1)  # too early to look again
    opened_one.write()
    values = [e["args"]["so far"] for e in json.loads(opened_one.path.read_text())["traceEvents"] if e["ph"] == "C"]
    assert values == [4, 9]


def test_one_file_has_one_recorder(opened_one: recorder.Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(opened_one.path.parent)
    assert opened("t.json") is opened_one
    opened_one.models = 1
    flush()
    assert opened_one.path.read_text() == ""
    opened_one.models = 0
    flush()
    assert json.loads(opened_one.path.read_text())["traceEvents"]


@pytest.mark.parametrize("name", ["no such folder/t.json", "."])
def test_a_file_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    with pytest.raises(ov.InvalidArgumentError, match=r"TRACE.*cannot be written") as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_can_no_longer_be_written_is_logged(
    opened_one: recorder.Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    opened_one.path.unlink()
    opened_one.path.mkdir()
    opened_one.write()
    assert "cannot be written: Is a directory." in caplog.text
    opened_one.path.rmdir()


def test_a_forked_child_records_nothing(opened_one: recorder.Recorder) -> None:
    def record() -> None:
        mark("in the child")
        sys.exit(int(opened_one.is_open) + len(opened_one.events))

    child = multiprocessing.get_context("fork").Process(target=record)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert opened_one.is_open
