"""`cpuruntime benchmark` without a device: loops, loads, figures, inputs, reports."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import logging
import re
from array import array
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import cpuruntime as ov
from cpuruntime.cli.benchmark import configuration, disturbance, measure, ports
from cpuruntime.cli.benchmark.feed import Feed
from cpuruntime.cli.benchmark.load import load
from cpuruntime.cli.benchmark.measure import Limits, Measurement, measure_async, measure_open, measure_sync
from cpuruntime.cli.benchmark.profiles import mean_profile, ordered, profile_table
from cpuruntime.cli.benchmark.report import Progress, Report, fallback_summary
from cpuruntime.cli.benchmark.statistics import Statistics
from cpuruntime.devices.explanation import Row


def test_limits() -> None:
    both = Limits(seconds=2.0, iterations=10)
    assert not both.reached(3.0, 9)
    assert not both.reached(1.9, 11)
    assert both.reached(2.0, 10)
    assert both.share_done(1.0, 10) == 0.5
    assert str(both) == "2000 ms duration, 10 iterations"
    assert Limits(iterations=10).aligned(4) == Limits(iterations=12)
    assert Limits(seconds=1.0).aligned(4) == Limits(seconds=1.0)


def measured(*latencies: float, seconds: float = 0.5, groups: Sequence[int] = (), **more: object) -> Measurement:
    """A measurement of two frames an inference, a third of whose latency is queued."""
    return Measurement(
        array("d", latencies), array("d", latencies), array("l", groups or [0] * len(latencies)), 2 * len(latencies),
        seconds, 0.012, array("d", [0.5]), array("d", [1.5]), **more,
    )  # fmt: skip


def test_the_percentile_is_the_least_latency_that_so_many_do_not_exceed() -> None:
    found = measured(*(float(value) for value in range(10, 0, -1)), seconds=2.0)
    figures = found.figures()
    assert [figures.percentile(percent) for percent in (1, 10, 11, 50, 90, 100)] == [1, 1, 2, 5, 9, 10]
    assert measured(3.0).figures().percentile(1) == 3.0
    assert measured(*map(float, range(1000))).figures().percentile(99.9) == 998
    assert figures.average == 5.5
    assert found.throughput == 10.0


class FakeRequest:
    """Each inference has the next latency of a list, a quarter of which it was queued."""

    def __init__(self, latencies: Sequence[float]) -> None:
        self._latencies = iter(latencies)
        self.latency = 0.0
        self.inputs: list[object] = []

    def infer(self) -> None:
        self.latency = next(self._latencies)

    @property
    def latency_anatomy(self) -> ov.LatencyAnatomy:
        return ov.LatencyAnatomy(self.latency / 4, 0.0, self.latency * 3 / 4, 0.0)

    def set_input_tensor(self, index: int, tensor: ov.Tensor) -> None:
        self.inputs.append(tensor.data.tolist())


class FakeQueue:
    """Requests that are idle in turns; `log` holds the order in which they were started."""

    def __init__(self, *latencies: Sequence[float]) -> None:
        self.requests = [FakeRequest(one) for one in latencies or ([1.0, 3.0, 5.0], [2.0, 4.0, 6.0])]
        self.log: list[int] = []

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> FakeRequest:
        return self.requests[index]

    def get_idle_request_id(self) -> int:
        return len(self.log) % len(self)

    def start_async(self) -> None:
        index = self.get_idle_request_id()
        self.requests[index].infer()
        self.log.append(index)

    def wait_all(self) -> None:
        self.log.append(-1)


def feed_of(*shapes: tuple[int, ...], is_inside: bool = False) -> Feed:
    """A feed of one input, whose turns have these shapes and the values 0, 1 and so on."""
    info = ports.InputInfo("x", np.dtype(np.float32), ov.PartialShape("?,?"), ov.Layout("NC"), list(shapes))
    feed = Feed([info], [[np.full(shape, turn, np.float32) for turn, shape in enumerate(shapes)]])
    feed.is_inside = is_inside
    return feed


def ignore(*_: object) -> None:
    pass


def test_the_synchronous_loop_records_every_inference() -> None:
    seen: list[int] = []
    found = Measurement()
    request = FakeRequest([3.0, 1.0, 2.0])
    measure_sync(request, feed_of((2, 1)), Limits(iterations=3), None, lambda _, count: seen.append(count), found)
    assert list(found.latencies) == [3.0, 1.0, 2.0]
    assert (seen, found.frames, request.inputs) == ([1, 2, 3], 6, [])
    assert list(found.queued) == [0.75, 0.25, 0.5]
    assert list(found.executed) == [2.25, 0.75, 1.5]
    assert 0 < found.seconds < 10
    assert found.cpu_seconds >= 0


def test_the_asynchronous_loop_drains_and_runs_each_request_equally_often() -> None:
    queue, found = FakeQueue(), Measurement()
    measure_async(queue, feed_of((1, 1)), Limits(iterations=5), None, ignore, found)
    assert queue.log == [0, 1, 0, 1, 0, 1, -1]
    assert sorted(found.latencies) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_shapes_take_turns_in_the_loop_and_are_told_apart() -> None:
    queue, found = FakeQueue([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Measurement()
    feed = feed_of((1, 1), (2, 1), (4, 1), is_inside=True)
    measure_async(queue, feed, Limits(iterations=4), None, ignore, found)
    assert len(queue.log) == 6 + 1
    assert found.frames == 2 * (1 + 2 + 4)
    assert [found.figures(group).sorted.tolist() for group in range(3)] == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
    assert [len(one) for one in queue.requests[0].inputs] == [1, 2, 4, 1, 2, 4]
    assert feed.group_names() == ["x: [1, 1]", "x: [2, 1]", "x: [4, 1]"]


def test_a_loop_that_an_error_ends_keeps_what_was_measured() -> None:
    found = Measurement()
    with pytest.raises(StopIteration):
        measure_sync(FakeRequest([3.0, 1.0]), feed_of((1, 1)), Limits(iterations=9), None, ignore, found)
    assert list(found.latencies) == [3.0, 1.0]
    assert found.seconds > 0


def test_at_least_one_inference_is_measured_however_slow() -> None:
    found = Measurement()
    measure_sync(FakeRequest([7.0]), feed_of((1, 1)), Limits(seconds=1e-9), None, ignore, found)
    assert found.iterations == 1


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 10

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The clock of the loops."""
    clock = FakeTime()
    monkeypatch.setattr(measure, "time", clock)
    return clock


class SlowQueue(FakeQueue):
    """One request; each inference takes 20 ms, for which the next one has to wait."""

    def __init__(self, clock: FakeTime) -> None:
        super().__init__(itertools.repeat(20.0))  # type: ignore[arg-type]
        self._clock = clock
        self._idle = 0.0

    def get_idle_request_id(self) -> int:
        self._clock.now = max(self._clock.now, self._idle)
        return 0

    def start_async(self) -> None:
        self._idle = self._clock.now + 0.02
        super().start_async()

    def wait_all(self) -> None:
        self.get_idle_request_id()


def test_an_open_loop_counts_the_time_from_when_a_request_was_due(clock: FakeTime) -> None:
    found = Measurement()
    measure_open(SlowQueue(clock), feed_of((1, 1)), iter([0.0] * 4), Limits(), ignore, found)
    assert list(found.latencies) == pytest.approx([20, 40, 60, 80])
    assert list(found.queued) == pytest.approx([5, 25, 45, 65])
    assert list(found.executed) == pytest.approx([15] * 4)
    assert list(found.moments) == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert found.seconds == pytest.approx(0.08)
    assert found.cpu_milliseconds == pytest.approx(2)


def test_requests_that_an_open_loop_cannot_serve_in_time_count_as_long_as_they_waited(clock: FakeTime) -> None:
    found = Measurement()
    arrivals = load("burst:50:10").arrivals()
    measure_open(SlowQueue(clock), feed_of((1, 1)), arrivals, Limits(seconds=0.09), ignore, found)
    assert list(found.latencies) == pytest.approx([20, 40, 60, 80, 100])
    assert list(found.unserved) == pytest.approx([100] * 45)
    assert found.figures().percentile(50) == pytest.approx(100)


def test_an_open_loop_waits_for_requests_that_are_not_due(clock: FakeTime) -> None:
    found = Measurement()
    arrivals = iter([0.0, 0.1, 0.11, 0.4, 0.5])
    measure_open(SlowQueue(clock), feed_of((1, 1)), arrivals, Limits(iterations=4), ignore, found)
    assert list(found.latencies) == pytest.approx([20, 20, 30, 20])
    assert found.seconds == pytest.approx(0.42)


@pytest.mark.parametrize("loop", [measure_sync, measure_async])
def test_the_rate_of_frames_is_limited(loop: object, clock: FakeTime) -> None:
    runner, found = (FakeRequest if loop is measure_sync else FakeQueue)([1.0] * 10), Measurement()
    loop(runner, feed_of((4, 1)), Limits(iterations=10), 400.0, ignore, found)  # type: ignore[operator]
    assert found.throughput == pytest.approx(400)


def test_loads() -> None:
    moments = list(itertools.islice(load("open:100").arrivals(), 20_000))
    gaps = np.diff(moments)
    assert np.mean(gaps) == pytest.approx(0.01, rel=0.03)
    assert np.std(gaps) == pytest.approx(0.01, rel=0.05)
    assert moments[:9] == list(itertools.islice(load("open:100").arrivals(), 9))
    assert list(itertools.islice(load("burst:2:0.5").arrivals(), 5)) == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert str(load("burst")) == "burst (16 requests every 1 s)"


def test_a_trace_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("# seconds\n0\n0.5\n\n0.5  # again\n2e0\n")
    found = load(f"trace:{path}")
    assert (list(found.arrivals()), found.is_endless) == ([0.0, 0.5, 0.5, 2.0], False)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fast", "'fast' is no load; give open:RATE, burst, burst:COUNT:SECONDS or trace:FILE"),
        ("open:0", "the RATE of 'open:0' must be a number greater than 0"),
        ("open:nan", "RATE"),
        ("burst:-1", "the COUNT of 'burst:-1' must be a whole number"),
        ("burst:2:x", "the SECONDS of 'burst:2:x'"),
        ("trace:missing", "trace 'missing' cannot be read"),
        ("trace:", "is no load"),
    ],
)
def test_a_wrong_load_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(complaint)):
        load(text)


@pytest.mark.parametrize(("text", "complaint"), [("1\n0\n", "line 2 of trace"), ("x\n", "line 1"), ("#\n", "no line")])
def test_a_wrong_trace_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(argparse.ArgumentTypeError, match=complaint):
        load(f"trace:{path}")


def printed(found: Measurement, percent: float = 50, groups: Sequence[str] = ()) -> list[str]:
    stream = io.StringIO()
    Report(stream).results(found, percent, groups)
    return stream.getvalue().splitlines()


def test_the_closing_figures_are_laid_out_as_benchmark_app_s() -> None:
    assert printed(measured(2.0, 9.0, 4.0)) == [
        "[ INFO ] Count:            3 iterations",
        "[ INFO ] Duration:         500.00 ms",
        "[ INFO ] Latency:",
        "[ INFO ]    Median:        4.00 ms",
        "[ INFO ]    Average:       5.00 ms",
        "[ INFO ]    Min:           2.00 ms",
        "[ INFO ]    Max:           9.00 ms",
        "[ INFO ]    p50 / p90 / p99 / p99.9: 4.00 / 9.00 / 9.00 / 9.00 ms",
        "[ INFO ]    Queued:        0.50 ms on average",
        "[ INFO ]    Executed:      1.50 ms on average",
        "[ INFO ] CPU time:         4.00 ms an inference",
        "[ INFO ] Throughput:   12.00 FPS",
    ]


def test_short_latencies_are_in_microseconds_and_percentiles_named() -> None:
    lines = printed(measured(0.5, 0.75), percent=99.9)
    assert lines[3] == "[ INFO ]    99.9 percentile:     750.00 us"


def test_figures_of_groups_and_of_requests_that_were_not_served() -> None:
    lines = printed(measured(2.0, 4.0, groups=[0, 1], unserved=array("d", [70.0])), groups=["x: [1]", "x: [2]"])
    at = lines.index("[ INFO ] 2. x: [2]")
    assert lines[at + 1] == "[ INFO ]    Median:        4.00 ms"
    assert "[ INFO ]    Max:           70.00 ms" in lines
    assert any(line.startswith("[ WARNING ] 1 requests of the load were not served in time") for line in lines)


def test_progress_without_a_terminal_is_a_line_for_every_fifth() -> None:
    stream = io.StringIO()
    progress = Progress(Report(stream), Limits(seconds=10.0))
    for second in range(11):
        progress(float(second), 10 * second)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [re.search(r"(\d+)%", line)[1] for line in lines] == ["20", "40", "60", "80", "100"]
    assert lines[0] == "[ INFO ] Progress:  20%, 2.0 s, 20 iterations"


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, f"[{'#' * 15}{'.' * 15}]  50%, 1.0 s, 2 iterations "),
        (40, "[#####.....]  50%, 1.0 s, 2 iterations "),
        (20, " 50%, 1.0 s, 2 iter"),
    ],
)
def test_progress_on_a_terminal_is_a_bar_that_is_wiped(
    monkeypatch: pytest.MonkeyPatch, columns: int, line: str
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    progress = Progress(Report(stream), Limits(iterations=4))
    progress(1.0, 2)
    progress(1.1, 3)
    progress.close()
    assert stream.getvalue() == f"\r{line}\r\x1b[K"
    assert len(line) < columns


def profile(name: str, microseconds: int, status: str = "EXECUTED") -> ov.ProfilingInfo:
    spent = timedelta(microseconds=microseconds)
    return ov.ProfilingInfo(ov.ProfilingInfo.Status[status], spent, spent, name, "Conv", "direct")


PROFILES = [[profile("a", 10), profile("b", 30), profile("c", 0, "NOT_RUN")], [profile("a", 10), profile("b", 50)]]


def test_the_profile_is_the_mean_over_the_requests_in_the_order_asked_for() -> None:
    rows = mean_profile(PROFILES)
    assert [(row.node_name, row.real_time.microseconds) for row in rows] == [("a", 10), ("b", 40), ("c", 0)]
    names = {order: "".join(row.node_name for row in ordered(rows, order))
             for order in ("no_sort", "sort", "simple_sort")}  # fmt: skip
    assert names == {"no_sort": "abc", "sort": "bac", "simple_sort": "ba"}
    table = profile_table(ordered(rows, "simple_sort"))
    assert [line.split() for line in table] == [
        ["node", "type", "kernel", "time", "(ms)", "share"],
        ["b", "Conv", "direct", "0.040", "80.00%"],
        ["a", "Conv", "direct", "0.010", "20.00%"],
        ["Total", "0.050", "100.00%"],
    ]
    assert len({len(line) for line in table}) == 1


def test_an_empty_profile_has_a_table() -> None:
    assert profile_table(mean_profile([]))[-1].split() == ["Total", "0.000", "100.00%"]


def test_steps_without_a_kernel_are_summed_up_by_operator() -> None:
    rows = [Row((f"n{index}",), "Loop", "numpy", fallback=True) for index in range(4)]
    rows += [Row(("a", "b"), "Det", "numpy", fallback=True), Row(("c",), "Conv", "direct")]
    summary = fallback_summary(ov.Explanation("CPU", rows))
    assert summary == "5 of 6 steps have no kernel and run slowly: 4 Loop, 1 Det"
    assert fallback_summary(ov.Explanation("CPU", rows[-1:])) == ""


def test_the_log_is_part_of_the_report() -> None:
    stream, log = io.StringIO(), logging.getLogger("cpuruntime.streams")
    with Report(stream).log_included():
        log.warning("not pinned: %s", "EPERM")
    log.warning("later")
    assert stream.getvalue() == "[ WARNING ] not pinned: EPERM\n"


def test_work_of_others_is_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(100.0, 5.0), (107.0, 7.0), (0.0, 0.0), (3.1, 0.0)])
    monkeypatch.setattr(disturbance, "ticks", lambda: next(ticks))
    monkeypatch.setattr(disturbance.os, "cpu_count", lambda: 2)
    remark = disturbance.Disturbance().remark(5.0, own_seconds=3.0)
    assert remark == (
        "Other processes took 40% and the hypervisor took 20% of the processors' time while it was measured."
    )
    assert disturbance.Disturbance().remark(5.0, own_seconds=3.0) == ""


def report_of(tmp_path: Path, kind: str | None, as_json: bool) -> Statistics:
    found = Statistics(kind, tmp_path, as_json, ignore)
    found.options(["-m", "a.onnx", "-i", "x", "y", "-pc", "--time=3", "-niter", "-1"])
    found.setup({"API": "sync"})
    found.measured(measured(2.0, 9.0, 4.0), 50, [])
    found.write()
    found.write_counters(PROFILES)
    return found


def test_the_report_as_csv(tmp_path: Path) -> None:
    report_of(tmp_path, "average_counters", as_json=False)
    sections = (tmp_path / "benchmark_report.csv").read_text().split("\n\n")
    assert sections[0].splitlines() == [
        "Command line parameters", "-m;a.onnx", "-i;x y", "-pc;", "--time;3", "-niter;-1"
    ]  # fmt: skip
    assert sections[1].splitlines() == ["Configuration setup", "API;sync"]
    results = dict(line.split(";") for line in sections[2].splitlines()[1:])
    assert (results["latency (ms)"], results["avg latency"]) == ("4.0000", "5.0000")
    assert results["p99.9 latency (ms)"] == "9.0000"
    assert (results["total number of iterations"], results["throughput"]) == ("3", "12.0000")
    assert (results["queued (ms)"], results["processor time of an inference (ms)"]) == ("0.5000", "4.0000")
    counters = (tmp_path / "benchmark_average_counters_report.csv").read_text().splitlines()
    assert counters == [
        "layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)",
        "a;Status.EXECUTED;Conv;direct;0.010;0.010",
        "b;Status.EXECUTED;Conv;direct;0.040;0.040",
        "c;Status.NOT_RUN;Conv;direct;0.000;0.000",
        "Total;;;;0.050;0.050",
        "",
    ]


def test_the_report_as_json(tmp_path: Path) -> None:
    found = report_of(tmp_path, "detailed_counters", as_json=True)
    held = json.loads((tmp_path / "benchmark_report.json").read_text())
    assert held["cmd_options"]["-i"] == "x y"
    assert held["configuration_setup"] == {"API": "sync"}
    assert held["execution_results"]["max latency"] == "9.0000"
    assert held["machine"]["version"] == ov.get_version()
    assert held["samples"] == {"every": 1, "latencies (ms)": [2.0, 9.0, 4.0]}
    detailed = json.loads((tmp_path / "benchmark_detailed_counters_report.json").read_text())
    assert [len(one["nodes"]) for one in detailed["detailed_performance"]] == [3, 2]
    assert detailed["detailed_performance"][1]["total_real_time"] == "0.060"
    found.write_sorted(ordered(mean_profile(PROFILES), "simple_sort"))
    held = json.loads((tmp_path / "benchmark_sorted_report.json").read_text())
    assert [(one["name"], one["%"]) for one in held["avg_performance"]["nodes"]] == [("b", "80.00%"), ("a", "20.00%")]


def test_the_report_of_groups_and_without_a_report(tmp_path: Path) -> None:
    found = report_of(tmp_path, None, as_json=True)
    assert list(tmp_path.iterdir()) == []
    found.measured(measured(2.0, 4.0, groups=[0, 1]), 90, ["x: [1]", "x: [2]"])
    results = found.sections["execution_results"]
    assert (results["latency (90 percentile) (ms)"], results["group 2"]) == ("4.0000", "x: [2]")
    assert results["group 2 avg latency"] == "4.0000"


def test_a_missing_report_folder_is_refused_at_once() -> None:
    with pytest.raises(ov.InvalidArgumentError, match="-report_folder 'gone': there is no such folder"):
        Statistics("no_counters", Path("gone"), False, ignore)


def test_properties_are_dumped_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    configuration.dump_config(path, "CPU", {"PERF_COUNT": True, "NUM_STREAMS": 2, "PERFORMANCE_HINT": "LATENCY"})
    assert json.loads(path.read_text()) == {
        "CPU": {"PERF_COUNT": "YES", "NUM_STREAMS": "2", "PERFORMANCE_HINT": "LATENCY"}
    }
    expected = {"PERF_COUNT": True, "NUM_STREAMS": "2", "PERFORMANCE_HINT": "LATENCY"}
    assert configuration.load_config(path, "CPU") == configuration.load_config(path, "CPU.0") == expected
    assert configuration.load_config(path, "REFERENCE") == {}


@pytest.mark.parametrize("text", ["{", "[1]", '{"CPU": 3}'])
def test_a_wrong_file_of_properties_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ov.InvalidArgumentError, match=r"-load_config .*config\.json"):
        configuration.load_config(path, "CPU")
    with pytest.raises(ov.InvalidArgumentError, match=r"-load_config gone cannot be read"):
        configuration.load_config(Path("gone"), "CPU")
