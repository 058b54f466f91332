"""What `cpuruntime benchmark` prints and writes: closing figures, progress, profiles, reports and configurations."""

from __future__ import annotations

import io
import json
import logging
import re
from array import array
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

import cpuruntime as ov
from cpuruntime.cli.benchmark import configuration, disturbance
from cpuruntime.cli.benchmark.measure import Limits, Measurement
from cpuruntime.cli.benchmark.profiles import mean_profile, ordered, profile_table
from cpuruntime.cli.benchmark.report import Progress, Report, fallback_summary
from cpuruntime.cli.benchmark.statistics import Statistics
from cpuruntime.devices.explanation import Row


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


def ignore(*_: object) -> None:
    pass


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
