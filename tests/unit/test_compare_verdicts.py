"""`cpuruntime compare` without processes: intervals, verdicts on made-up measurements, files of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from support.compared import case

from cpuruntime.compare import documents
from cpuruntime.compare.intervals import Estimate, holm_levels, student_quantile
from cpuruntime.compare.page import page
from cpuruntime.compare.record import METHOD_PAIRED, METHOD_STORED, Run, read_run, written
from cpuruntime.compare.schedule import Case
from cpuruntime.compare.suite import Suite
from cpuruntime.compare.verdicts import OutputCheck, Row, checks, exit_code, paired_rows, stored_rows
from cpuruntime.errors import InvalidArgumentError

PACKAGES = {"base": 1000, "head": 1000}
SUITE = Suite(())


def times(cases: list[Case]) -> dict[str, Row]:
    """The rows of the time of an inference, by model."""
    return {row.model: row for row in paired_rows(SUITE, cases, PACKAGES) if row.metric == "time"}


def run_of(cases: list[Case], method: str = METHOD_PAIRED) -> Run:
    sides = {name: {"label": f"the {name}", "package_bytes": 1000} for name in ("base", "head")}
    rows = paired_rows(SUITE, cases, PACKAGES)
    about = {"processor": "some <processor>", "processors": 2}
    return Run("2026-01-02T03:04:05+00:00", method, about, sides, 99.0, cases, rows, [])


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 3, 3.182), (0.995, 5, 4.032), (0.995, 9, 3.250), (0.95, 10, 1.812)],
)
def test_student_s_quantiles_are_those_of_the_tables(probability: float, freedom: int, quantile: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(quantile, abs=6e-4)


@pytest.mark.parametrize("processes", [4, 6, 8, 12])
def test_an_interval_misses_as_often_as_it_says(processes: int) -> None:
    random = np.random.default_rng(processes)
    misses = sum(Estimate.paired(random.normal(0, 0.01, processes)).excludes_zero(0.05) for _ in range(400))
    assert 6 <= misses <= 40  # 20 are expected, with a standard deviation of 4.4


def test_the_p_value_is_where_the_interval_reaches_zero() -> None:
    estimate = Estimate.paired(np.random.default_rng(1).normal(0.01, 0.01, 8))
    p_value = estimate.p_value()
    assert 1e-5 < p_value < 0.5
    assert estimate.excludes_zero(p_value * 1.05)
    assert not estimate.excludes_zero(p_value * 0.95)


def test_too_few_processes_have_no_interval() -> None:
    assert Estimate.paired([0.1, 0.1, 0.1]).interval(0.01) == (-math.inf, math.inf)
    assert times([case(slowdown=0.5, processes=3)])["net"].verdict == "inconclusive"


def test_holm_tests_the_smallest_p_value_most_strictly() -> None:
    assert holm_levels([0.004, 0.001, 0.5], 0.01) == pytest.approx([0.005, 0.01 / 3, 0.01])
    assert holm_levels([0.3, 0.006, 0.5], 0.01) == pytest.approx([0.01 / 3] * 3)


@pytest.mark.parametrize(
    ("slowdown", "verdict"), [(0.03, "slower"), (-0.03, "faster"), (0.0, "same"), (0.01, "same"), (0.2, "slower")]
)
def test_verdicts(slowdown: float, verdict: str) -> None:
    row = times([case(slowdown=slowdown)])["net"]
    assert row.verdict == verdict
    assert row.low < 1 + slowdown < row.high
    assert row.ratio == pytest.approx(1 + slowdown, abs=0.005)
    assert 1.015 < row.detectable < 1.03
    assert row.head == pytest.approx(0.005 * (1 + slowdown), rel=0.01)


def test_noise_that_hides_the_threshold_is_inconclusive() -> None:
    row = times([case(noise=0.05)])["net"]
    assert row.verdict == "inconclusive"
    assert row.detectable > 1.05


def test_of_equal_sides_hardly_any_is_called_slower() -> None:
    rows = [times([case(noise=0.01, seed=seed)])["net"] for seed in range(100)]
    assert sum(row.verdict == "slower" for row in rows) <= 1


def test_a_slowdown_of_the_threshold_is_found() -> None:
    rows = [times([case(slowdown=0.03, noise=0.004, seed=seed)])["net"] for seed in range(40)]
    assert sum(row.verdict == "slower" for row in rows) >= 38


def test_disturbed_slices_do_not_count_where_others_are_enough() -> None:
    row = times([case(disturbed=0.3, slices=8)])["net"]
    assert row.verdict == "same"
    assert 10 < row.disturbed < 40
    assert row.slices == 64


def test_disturbed_slices_of_one_thread_are_compared_by_processor_time() -> None:
    found = case(slowdown=0.03, disturbed=0.9, serial=True)
    row = times([found])["net"]
    assert (row.verdict, row.processes) == ("slower", 8)
    assert row.ratio == pytest.approx(1.03, abs=0.005)
    assert row.head == pytest.approx(0.00515, rel=0.01)
    assert any("by processor time" in note for note in documents.notes(run_of([found])))
    assert not any("by processor time" in note for note in documents.notes(run_of([case(disturbed=0.9)])))
    assert times([case(slowdown=0.03, disturbed=0.9)])["net"].ratio > 2


def test_stored_runs_are_compared_by_undisturbed_times() -> None:
    head, base = case(disturbed=0.5, slices=10, serial=True), case(slices=10, serial=True, seed=3)
    (row,) = [row for row in stored_rows(SUITE, [head], [base], PACKAGES) if row.metric == "time"]
    assert row.ratio == pytest.approx(1, abs=0.01)


def test_processes_without_enough_undisturbed_slices_count_only_where_the_others_are_too_few() -> None:
    found = case(processes=6)
    bad = case(processes=2, disturbed=1.0)
    found.processes += bad.processes
    row = times([found])["net"]
    assert (row.verdict, row.processes) == ("same", 6)
    found.processes = [*found.processes[:3], *bad.processes]
    assert times([found])["net"].processes == 5


def test_one_slow_model_among_many_is_found_and_the_others_are_not_blamed() -> None:
    cases = [case(f"net{number}", seed=number) for number in range(9)]
    found = times([*cases, case("slow", slowdown=0.03, seed=10)])
    assert [name for name, row in found.items() if row.verdict != "same"] == ["slow"]


def test_a_larger_package_and_more_memory_are_slower() -> None:
    found = case()
    for process in found.processes:
        process.starts["head"]["memory"] = 1.2e8
    rows = {row.metric: row for row in paired_rows(SUITE, [found], {"base": 1000, "head": 1100})}
    assert (rows["memory"].verdict, rows["wheel"].verdict) == ("slower", "slower")
    assert rows["wheel"].ratio == pytest.approx(1.1)


def test_against_a_stored_run_times_are_in_units_of_the_calibration() -> None:
    stored, slow_machine = case(seed=1), case(seed=2, machine=1.3)
    (row,) = [row for row in stored_rows(SUITE, [slow_machine], [stored], PACKAGES) if row.metric == "time"]
    assert row.verdict == "same"
    slower = case(seed=2, machine=1.3, slowdown=0.05)
    (row,) = [row for row in stored_rows(SUITE, [slower], [stored], PACKAGES) if row.metric == "time"]
    assert row.verdict == "slower"
    assert row.ratio == pytest.approx(1.05, abs=0.01)
    assert any("weaker" in note for note in documents.notes(run_of([slower], METHOD_STORED)))


def test_models_that_the_stored_run_has_not_are_not_compared() -> None:
    rows = stored_rows(SUITE, [case("new"), case("net")], [case("net")], PACKAGES)
    assert {row.model for row in rows} == {"net", "package"}


def test_outputs_are_compared_with_each_other_and_with_the_stored_ones(tmp_path: Path) -> None:
    found = case()
    for name, factor in (("base", 1.0), ("head", 1.01)):
        np.savez(tmp_path / f"{name}.npz", np.array([1.0, np.nan, np.inf, -2.0]) * factor, np.array(["a"]))
        found.outputs[name] = tmp_path / f"{name}.npz"
    object.__setattr__(found.model, "output", tmp_path / "base.npz")
    errors = {check.compared: (check.error, check.is_right) for check in checks([found])}
    assert errors["head and base"] == (pytest.approx(0.01), False)
    assert errors["base and base.npz"] == (0.0, True)
    assert len(errors) == 3


@pytest.mark.parametrize("other", [[np.zeros(3)], [np.zeros(2), np.zeros(2)], [np.array([np.nan, 0])]])
def test_other_shapes_numbers_and_nans_are_an_infinite_difference(tmp_path: Path, other: list[np.ndarray]) -> None:
    found = case()
    for name, arrays in (("base", [np.zeros(2)]), ("head", other)):
        np.savez(tmp_path / f"{name}.npz", *arrays)
        found.outputs[name] = tmp_path / f"{name}.npz"
    assert [check.error for check in checks([found])] == [math.inf]


def test_exit_codes() -> None:
    def code(*cases: Case, error: float = 0.0, failures: list[str] | None = None) -> int:
        check = OutputCheck("net", "latency1", "head and base", error, 1e-3)
        return exit_code(paired_rows(SUITE, list(cases), PACKAGES), [check], failures or [])

    assert code(case()) == 0
    assert code(case(slowdown=-0.1)) == 0
    assert code(case(slowdown=0.1)) == 3
    assert code(case(), error=0.1) == 3
    assert code(case(), error=math.nan) == 3
    assert code(case(noise=0.1)) == 4
    assert code(case(slowdown=0.1), failures=["net latency1: it died"]) == 1


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = run_of([case(disturbed=0.2), case("few", processes=2)])
    path = tmp_path / "run.json"
    path.write_text(written(run))
    found = read_run(path)
    assert [each.processes for each in found.cases] == [each.processes for each in run.cases]
    assert (found.date, found.machine, found.sides) == (run.date, run.machine, run.sides)
    stored = json.loads(path.read_text())
    assert [row["high"] for row in stored["rows"] if row["model"] == "few" and row["metric"] == "time"] == [None]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "JSONDecodeError"), ("[]", "no run"), ('{"schema": 99}', "format 99"), ('{"schema": 2}', "'cases'")],
)
def test_a_file_that_is_no_run_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=complaint) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


def test_documents_show_rows_failures_and_disturbances() -> None:
    broken = case("broken")
    broken.failure = "head: the process ended with exit code -9"
    fine, slow = case("fine", disturbed=0.3, slices=8), case("slow|<b>", slowdown=0.1)
    run = run_of([fine, slow, case("loud", noise=0.1), broken])
    text = documents.markdown(run)
    assert "| slow&#124;&lt;b> | latency1 | time | 5" in text
    assert "**slower**" in text
    assert "- Failed: broken latency1: head: the process ended with exit code -9" in text
    assert "most often other processes ran" in text
    terminal = "\n".join(documents.table(run))
    assert "fine      latency1  time" in terminal
    suite = ElementTree.fromstring(documents.junit(run))
    assert int(suite.attrib["tests"]) == len(suite) == 4 * 4 + 1 + 1
    failed = {f"{each.attrib['classname']} {each.attrib['name']}" for each in suite if each.find("failure") is not None}
    assert "slow|<b> latency1 time" in failed
    assert [each.attrib["classname"] for each in suite if each.find("error") is not None] == ["broken latency1"]
    skipped = [each.attrib["classname"] for each in suite if each.find("skipped") is not None]
    assert "loud latency1" in skipped


def test_the_page_has_every_interval_and_number_and_refers_to_nothing_outside() -> None:
    run = run_of([case("fine"), case("slow<b>", slowdown=0.1)])
    text = page(run)
    assert text.count("<circle") == 2 * 4 + 2 * 8 * 5
    assert "slow&lt;b&gt;" in text
    assert "<b>" not in text
    for row in run.rows:
        assert f"<td>{documents.cells(row)[5]}</td>" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "No row has an interval" in page(run_of([case(processes=2)]))
