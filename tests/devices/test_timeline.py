"""Timelines of models: requests with their phases, streams with their steps, callbacks, phases of compiling."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from support.onnx_models import chain, one_input, two_inputs

import cpuruntime as ov
from cpuruntime.cli.main import main
from cpuruntime.devices.cpu import compiling
from cpuruntime.devices.cpu.fast_start import Missing

ROW = np.ones((2, 3), np.float32)
CONFIG = {"COMPILE_MODE": "OPTIMIZED", "NUM_STREAMS": 2}


class Timeline:
    """A file's events by what they are."""

    def __init__(self, path: Path) -> None:
        events = json.loads(path.read_text())["traceEvents"]
        self.processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
        self.tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.slices = [e for e in events if e["ph"] == "X"]
        self.flows = [e for e in events if e["ph"] in "stf"]
        self.moments = [e for e in events if e["ph"] == "i"]

    def on(self, prefix: str) -> list[dict[str, Any]]:
        """The slices of tracks whose names begin so."""
        return [e for e in self.slices if self.tracks[e["tid"]].startswith(prefix)]

    def check_nesting(self) -> None:
        """In each track a slice lies in another one or does not touch it."""
        by_track = defaultdict(list)
        for one in self.slices:
            by_track[one["tid"]].append((round(one["ts"] * 1000), -round(one["dur"] * 1000)))
        for rows in by_track.values():
            open_ends: list[int] = []
            for began, negative in sorted(rows):
                while open_ends and open_ends[-1] <= began:
                    open_ends.pop()
                assert not open_ends or began - negative <= open_ends[-1]
                open_ends.append(began - negative)


def check_phases(timeline: Timeline, inferences: int) -> None:
    """Each inference has its phases in the track of its request, one after the other, and was run on a stream."""
    whole = [e for e in timeline.on("request") if e["name"].startswith("inference")]
    assert sorted(e["args"]["inference"] for e in whole) == [*range(1, inferences + 1)]
    for one in whole:
        number = one["args"]["inference"]
        parts = [e for e in timeline.on("request") if e["args"]["inference"] == number and e is not one]
        assert [e["name"] for e in parts] == ["queued", "bound", "executed"]
        assert sum(e["dur"] for e in parts) == pytest.approx(one["dur"])
        assert {e["tid"] for e in parts} == {one["tid"]}


def test_steps_that_threads_share_say_what_they_wait_for(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    config = {**CONFIG, "TRACE": path, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2}
    with ov.Core().compile_model(chain(2, 256), "CPU", config) as compiled:
        for _ in range(3):
            compiled(np.ones((256, 256), np.float32))
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
    steps = [e for e in Timeline(path).on("stream") if not e["name"].startswith("inference")]
    for step in steps:
        facts = step["args"]
        assert ("threads us" in facts) == (threads > 1)
        if threads > 1:
            shares = facts["threads us"]
            assert len(shares) == threads
            assert max(shares) + facts["barrier us"] == pytest.approx(step["dur"], abs=0.01)
            assert facts["uneven us"] == pytest.approx(max(shares) - sum(shares) / threads, abs=0.01)


def test_requests_streams_steps_and_callbacks(tmp_path: Path, device: str) -> None:
    path = tmp_path / "t.json"
    config = {"TRACE": path, "NUM_STREAMS": 2, **(CONFIG if device == "CPU" else {})}
    with ov.Core().compile_model(chain(3, 64), device, config) as compiled:
        x = np.ones((64, 64), np.float32)
        for _ in range(3):
            compiled(x)
        queue = ov.AsyncInferQueue(compiled, 3)
        queue.set_callback(lambda request, number: None)
        for number in range(6):
            queue.start_async([x], number)
        queue.wait_all()
        request = compiled.create_infer_request()
        request.start_async([x])
        request.wait()
    timeline = Timeline(path)
    timeline.check_nesting()
    check_phases(timeline, 10)
    assert f"{device}: small [64,64]" in timeline.processes.values()
    prefix = "stream" if device == "CPU" else "device"
    run = [e for e in timeline.on(prefix) if e["name"].startswith("inference")]
    assert len(run) == 10
    steps = [e for e in timeline.on(prefix) if not e["name"].startswith("inference")]
    assert len(steps) == 30
    assert all("GFLOP/s" in e["args"] for e in steps) == (device == "CPU")
    called = [e["args"]["inference"] for e in timeline.slices if e["name"].startswith("callback of")]
    assert len(called) == len(set(called)) == 6
    for number in range(1, 11):
        kinds = [e["ph"] for e in timeline.flows if e["id"] == number]
        assert kinds == (["s", "t", "f"] if number in called else ["s", "f"])


def test_tracks_of_streams_are_named_with_their_cores(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with ov.Core().compile_model(one_input(), "CPU", {**CONFIG, "TRACE": path, "NUM_STREAMS": 1}) as compiled:
        compiled(ROW)
        pinned = compiled.get_property("PINNED_CPUS")
    (track,) = {name for name in Timeline(path).tracks.values() if name.startswith("stream")}
    assert track == "stream 0" + (f" (CPU {', '.join(map(str, pinned[0]))})" if pinned else "")


def test_phases_of_compiling_and_the_cache(tmp_path: Path) -> None:
    config = {**CONFIG, "CACHE_DIR": tmp_path / "cache"}
    for name in ("first.json", "second.json"):
        core = ov.Core()
        with core.trace(tmp_path / name), core.compile_model(two_inputs(), "CPU", config) as compiled:
            compiled([ROW, ROW])
    first, second = Timeline(tmp_path / "first.json"), Timeline(tmp_path / "second.json")
    for timeline in (first, second):
        timeline.check_nesting()
        check_phases(timeline, 1)
    names = [e["name"] for e in first.on(threading.current_thread().name)]
    assert {"read", "compile for CPU", "passes", "plan", "pack weights", "start streams"} <= set(names)
    assert "write to the model cache" in names
    (found,) = [e for e in second.slices if e["name"] == "look in the model cache"]
    assert found["args"] == {"found": True}
    assert "plan" not in [e["name"] for e in second.slices]
    assert [e["name"] for e in second.on("stream") if not e["name"].startswith("inference")]  # steps


def test_the_change_from_numpy_to_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kernels: object) -> None:
        raise Missing

    monkeypatch.setattr(compiling, "refuse_missing", refuse)
    core, fast = ov.Core(), {"COMPILE_MODE": "FAST_START"}
    with core.trace(tmp_path / "t.json"), core.compile_model(one_input(), "CPU", fast) as compiled:
        compiled(ROW)
        compiled.wait_until_optimized()
        compiled(ROW)
    timeline = Timeline(tmp_path / "t.json")
    check_phases(timeline, 2)
    assert [e["name"] for e in timeline.moments] == ["kernels take over from NumPy"]
    assert "compile in the background" in [e["name"] for e in timeline.on("cpuruntime-plan")]
    assert {"device", "stream 0"} <= {name.partition(" (")[0] for name in timeline.tracks.values()}


def test_a_context_records_all_models_of_its_core_until_it_ends(tmp_path: Path, device: str) -> None:
    core = ov.Core()
    before = core.compile_model(one_input(), device)
    request, queue = before.create_infer_request(), ov.AsyncInferQueue(before, 2)
    for _ in range(3):  # so that they run again
        request.infer([ROW])
        before(ROW)
    other = ov.Core().compile_model(one_input(), device)
    with suppress(KeyError), core.trace(tmp_path / "t.json"):
        inside = core.compile_model(one_input(), device)
        for compiled in (before, inside, other):
            compiled(ROW)
        request.infer([ROW])
        before.create_infer_request().infer([ROW])
        inner = ov.AsyncInferQueue(before, 2)
        for one in (queue, inner):
            for _ in range(4):
                one.start_async([ROW])
            one.wait_all()
        raise KeyError
    after = core.compile_model(one_input(), device)
    for compiled in (before, inside, after):
        compiled(ROW)
    for one in (queue, inner):
        one.start_async([ROW])
        one.wait_all()
    np.testing.assert_array_equal(request.infer([ROW])[0], -ROW)
    with before:
        request.infer([ROW])
    timeline = Timeline(tmp_path / "t.json")
    check_phases(timeline, 12)
    names = [*timeline.processes.values()]
    assert names.count(f"{device}: negation [2,3]") == 2


def test_steps_of_models_compiled_before_are_recorded_where_they_are_timed(tmp_path: Path) -> None:
    core = ov.Core()
    for timed in (True, False):
        path = tmp_path / f"{timed}.json"
        with core.compile_model(one_input(), "CPU", {**CONFIG, "PERF_COUNT": timed}) as before:
            with core.trace(path):
                before(ROW)
            assert any(e["name"].startswith("Neg") for e in Timeline(path).slices) == timed


def test_errors_are_recorded(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with ov.Core().compile_model(one_input(), "CPU", {**CONFIG, "TRACE": path}) as compiled:
        request = compiled.create_infer_request()
        request.start_async([ROW], deadline_ms=1e-6)
        with pytest.raises(ov.DeadlineExceededError):
            request.wait()
    (text,) = {e["args"]["error"] for e in Timeline(path).on("request")}
    assert text.startswith("DeadlineExceededError: ")


def test_devices_over_devices_have_a_process_each(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    config = {"TRACE": path, "SCHEDULE_POLICY": "DEVICE_PRIORITY"}
    with ov.Core().compile_model(one_input(), "MULTI:REFERENCE,NULL", config) as compiled:
        compiled(ROW)
    timeline = Timeline(path)
    timeline.check_nesting()
    assert set(timeline.processes.values()) >= {
        "MULTI:REFERENCE,NULL: negation [2,3]", "REFERENCE: negation [2,3]", "NULL: negation [2,3]",
    }  # fmt: skip
    steps = [timeline.processes[e["pid"]] for e in timeline.slices if e["name"] == "Neg negate"]
    assert steps
    assert set(steps) == {"REFERENCE: negation [2,3]"}


@pytest.mark.parametrize("name", ["gone/t.json", "."])
def test_a_wrong_file_is_an_error_when_the_model_is_compiled(tmp_path: Path, name: str) -> None:
    core = ov.Core()
    with pytest.raises(ov.InvalidArgumentError, match=r"TRACE: .* cannot be written"):
        core.compile_model(one_input(), "REFERENCE", {"TRACE": tmp_path / name})
    with pytest.raises(ov.InvalidArgumentError, match=r"TRACE: .* cannot be written"), core.trace(tmp_path / name):
        pytest.fail("the context was entered")


def test_without_a_timeline_no_function_is_called_for_one() -> None:
    called = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    with ov.Core().compile_model(one_input(), "CPU", CONFIG) as compiled:
        request = compiled.create_infer_request()
        request.infer([ROW])
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            for _ in range(3):
                request.infer([ROW])
                request.start_async([ROW])
                request.wait()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    assert any("infer_request" in name for name in called)
    assert not [name for name in called if "trace" in Path(name).stem or Path(name).parent.name == "trace"]


def test_the_file_is_written_at_the_end_of_a_process_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    code = f"""
import cpuruntime as ov, numpy as np
from support.onnx_models import one_input
compiled = ov.Core().compile_model(one_input(), "REFERENCE", {{"TRACE": {str(path)!r}}})
compiled(np.ones((2, 3), np.float32))
raise SystemExit(3)
"""
    folder = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 3
    check_phases(Timeline(path), 1)


def test_the_benchmark_writes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = tmp_path / "m.onnx", tmp_path / "t.json"
    model.write_bytes(one_input().SerializeToString())
    arguments = ["benchmark", "-m", str(model), "-d", "REFERENCE", "-niter", "2", "-api", "sync", "-no_warmup"]
    assert main([*arguments, "--trace", str(path)]) == 0
    assert f"The timeline is stored to {path}" in capsys.readouterr().out
    check_phases(Timeline(path), 2)
    assert main([*arguments, "--trace", str(tmp_path / "gone" / "t.json")]) != 0
    assert "cannot be written" in "".join(capsys.readouterr())


def test_the_trace_processor_of_perfetto_reads_the_file(tmp_path: Path) -> None:
    perfetto = pytest.importorskip("perfetto.trace_processor")
    path = tmp_path / "t.json"
    with ov.Core().compile_model(chain(2, 64), "CPU", {**CONFIG, "TRACE": path}) as compiled:
        for _ in range(4):
            compiled(np.ones((64, 64), np.float32))
    binary = shutil.which("trace_processor_shell") or shutil.which("trace_processor")
    if binary is None:
        pytest.skip("there is no trace processor; the package would load one from the network")
    with perfetto.TraceProcessor(str(path), config=perfetto.TraceProcessorConfig(bin_path=binary)) as processor:
        query = """
            select parent.name as whole, slice.name as phase, slice.dur from slice
            join slice parent on slice.parent_id = parent.id where slice.name = 'executed'
        """
        rows = [(row.whole, row.dur > 0) for row in processor.query(query)]
        assert sorted(rows) == [(f"inference {number}", True) for number in range(1, 5)]
        arrows = [*processor.query("select count(*) as number from flow")]
        assert arrows[0].number == 4
