"""`cpuruntime history`: changes of level in series of runs, and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.compared import case

from cpuruntime.cli.main import main
from cpuruntime.compare import trend
from cpuruntime.compare.record import METHOD_PAIRED, Run, written


@pytest.mark.parametrize(("step", "places"), [(0.05, [10]), (-0.05, [10]), (0.0, []), (0.004, [])])
def test_a_level_that_changes_is_found_where_it_changes(step: float, places: list[int]) -> None:
    values = np.random.default_rng(0).normal(0, 0.001 if step == 0.004 else 0.005, 20)
    values[10:] += step
    assert trend.changes(values) == places


def test_two_changes_are_found() -> None:
    values = np.random.default_rng(1).normal(0, 0.005, 36)
    values[12:] += 0.05
    values[24:] -= 0.03
    assert trend.changes(values) == [12, 24]


def test_series_without_a_change_have_none() -> None:
    random = np.random.default_rng(2)
    assert sum(bool(trend.changes(random.normal(0, 0.02, 15))) for _ in range(100)) <= 5


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_runs_have_no_change(count: int) -> None:
    assert trend.changes(list(range(count))) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve runs on machines of different speeds, of which the seventh and later are 10 % slower."""
    for number in range(12):
        found = case(slowdown=0.1 * (number >= 6), seed=number, machine=1 + 0.1 * (number % 3), processes=4)
        head = {"label": f"commit <{number}>", "package_bytes": 1000}
        date = f"2026-01-{number + 1:02d}T03:04:05+00:00"
        run = Run(date, METHOD_PAIRED, {"processor": "p", "processors": 2}, {"head": head}, 99.0, [found], [], [])
        (tmp_path / f"{12 - number}.json").write_text(written(run))
    return tmp_path


def test_the_run_at_which_a_level_changes_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.json").write_text("{}")
    assert main(["history", str(folder), "--metric", "time", "--html", str(folder / "page.html")]) == 0
    captured = capsys.readouterr()
    first, second = captured.out.splitlines()
    assert first == "net latency1 time: 12 runs, 1 changes"
    assert second.startswith("  +1") or second.startswith("  +9")
    assert second.endswith("% since 2026-01-07 03:04: commit <6>")
    assert captured.err.startswith(f"Left out: {folder / 'other.json'} is no run that 'cpuruntime compare' wrote")
    text = (folder / "page.html").read_text()
    assert text.count("<circle") == 12
    assert text.count("stroke-dasharray") == 1
    assert "commit &lt;6&gt;" in text
    assert "startup" not in text


def test_all_metrics_are_shown_by_default(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("net")] == ["time:", "startup:", "first:", "memory:"]


@pytest.mark.parametrize(("file", "complaint"), [(None, "has no runs; "), ("x.json", "has no runs: ")])
def test_a_folder_without_runs_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str | None, complaint: str
) -> None:
    if file:
        (tmp_path / file).write_text("[]")
    assert main(["history", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
