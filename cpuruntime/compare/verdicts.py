"""Judges measurements: a row for each model, mode and metric, checks of outputs, and the exit code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from cpuruntime.compare.intervals import FEWEST, Estimate, holm_levels
from cpuruntime.compare.schedule import FEWEST_PAIRS, Case, ProcessPair, SlicePair
from cpuruntime.compare.suite import Suite

BASE, HEAD = "base", "head"
FASTER, SAME, SLOWER, INCONCLUSIVE = "faster", "same", "slower", "inconclusive"
PASSED, FAILED, WORSE, UNDECIDED = 0, 1, 3, 4
"""Exit codes."""


@dataclass(frozen=True)
class Row:
    """A metric of a model in a mode. Ratios are head over base: above 1 the head is slower, or larger.

    `base` and `head` are seconds or bytes, medians over the processes. `detectable` is the ratio that is found in 95 %
    of such runs. `threshold` is the smallest change that matters, as a ratio. `disturbed` of `slices` pairs were.
    """

    model: str
    mode: str
    metric: str
    verdict: str
    base: float
    head: float
    ratio: float
    low: float
    high: float
    detectable: float
    threshold: float
    p_value: float
    processes: int
    slices: int = 0
    disturbed: int = 0


@dataclass(frozen=True)
class OutputCheck:
    """The largest difference of a model's outputs, relative to the largest magnitude, and the limit."""

    model: str
    mode: str
    compared: str
    error: float
    tolerance: float

    @property
    def is_right(self) -> bool:
        """Whether the difference is within the tolerance; one that is not a number is not."""
        return self.error <= self.tolerance


def judged(row: Row, estimate: Estimate, alpha: float) -> Row:
    """The row with its interval at the level `alpha` and the verdict.

    Slower: the interval lies above 1, and the ratio is beyond half the threshold. Same: not that, and the interval lies
    within the threshold on both sides.
    """
    low, high = estimate.interval(alpha)
    limit = math.log(row.threshold)
    verdict = INCONCLUSIVE
    if estimate.excludes_zero(alpha) and abs(estimate.effect) >= limit / 2:
        verdict = SLOWER if estimate.effect > 0 else FASTER
    elif -limit < low and high < limit:
        verdict = SAME
    detectable = estimate.detectable(alpha, limit / 2)
    low, high, ratio, detectable = (_exponential(value) for value in (low, high, estimate.effect, detectable))
    return replace(row, verdict=verdict, ratio=ratio, low=low, high=high, detectable=detectable)


def paired_rows(suite: Suite, cases: Sequence[Case], packages: dict[str, int]) -> list[Row]:
    """The verdicts on two sides that were measured together; `packages` are bytes by side."""

    def of(case: Case, metric: str) -> Estimate:
        return Estimate.paired([_paired(process, metric) for process in usable_processes(case, metric, comparable)])

    rows = _rows(suite, [(case, case, BASE) for case in cases if case.processes], of)
    return rows + _package_row(suite, packages[BASE], packages[HEAD])


def stored_rows(suite: Suite, cases: Sequence[Case], stored: Sequence[Case], packages: dict[str, int]) -> list[Row]:
    """The verdicts on the head against the head of a stored run, each in units of its own calibration loops."""
    found = {(case.model.name, case.mode): case for case in stored if case.processes}
    keys = [(case, found.get((case.model.name, case.mode))) for case in cases if case.processes]

    def of(case: Case, metric: str) -> Estimate:
        other = found[case.model.name, case.mode]
        head, base = (usable_processes(each, metric) for each in (case, other))
        return Estimate.unpaired(
            [normalised(process, metric) for process in head], [normalised(process, metric) for process in base]
        )

    rows = _rows(suite, [(case, other, HEAD) for case, other in keys if other], of)
    return rows + _package_row(suite, packages[BASE], packages[HEAD])


def _rows(
    suite: Suite, cases: Sequence[tuple[Case, Case, str]], estimate_of: Callable[[Case, str], Estimate]
) -> list[Row]:
    """The rows of all metrics; `cases` are each the head's, the base's and the name of the base's side in it."""
    rows = []
    for metric in ("time", "startup", "first", "memory"):
        estimates = [estimate_of(case, metric) for case, _, _ in cases]
        p_values = [estimate.p_value() for estimate in estimates]
        levels = holm_levels(p_values, suite.alpha)
        for (case, other, side), estimate, p_value, level in zip(cases, estimates, p_values, levels):
            slices = [pair for process in case.processes for pair in process.slices]
            row = Row(
                case.model.name, case.mode, metric, "", _typical(other, side, metric), _typical(case, HEAD, metric),
                0, 0, 0, 0, 1 + case.model.thresholds[metric] / 100, p_value, estimate.processes, len(slices),
                sum(bool(pair.conditions.disturbance) for pair in slices),
            )  # fmt: skip
            rows.append(judged(row, estimate, level))
    return sorted(rows, key=lambda row: [case.model.name for case, _, _ in cases].index(row.model))


def undisturbed(pair: SlicePair) -> bool:
    """Whether the times of a pair of slices are those of its inferences alone."""
    return not pair.conditions.disturbance


def comparable(pair: SlicePair) -> bool:
    """Whether its sides can be compared: by time where it was not disturbed, else by processor time."""
    return undisturbed(pair) or bool(pair.processor)


def compared(pair: SlicePair) -> dict[str, float]:
    """The seconds by which the sides of a pair are compared."""
    return pair.values if undisturbed(pair) else pair.processor or pair.values


Rule = Callable[[SlicePair], bool]


def usable_processes(case: Case, metric: str, rule: Rule = undisturbed) -> list[ProcessPair]:
    """The pairs of processes to judge by: for time those with enough slices that fit, if these are enough."""
    fitting = [process for process in case.processes if _fitting(process, rule)] if metric == "time" else []
    return fitting if len(fitting) >= FEWEST else case.processes


def usable(process: ProcessPair, rule: Rule = undisturbed) -> list[SlicePair]:
    """The pairs of slices that fit; all of them where fewer than three do."""
    return _fitting(process, rule) or process.slices


def _fitting(process: ProcessPair, rule: Rule) -> list[SlicePair]:
    fitting = [pair for pair in process.slices if rule(pair)]
    return fitting if len(fitting) >= FEWEST_PAIRS else []


def _paired(process: ProcessPair, metric: str) -> float:
    if metric == "time":
        pairs = map(compared, usable(process, comparable))
        return median(math.log(seconds[HEAD] / seconds[BASE]) for seconds in pairs)
    return math.log(process.starts[HEAD][metric] / process.starts[BASE][metric])


def normalised(process: ProcessPair, metric: str, side: str = HEAD) -> float:
    """The logarithm of a metric; times are in units of the calibration loop."""
    if metric == "time":
        return median(math.log(pair.values[side] / pair.conditions.calibration) for pair in usable(process))
    unit = 1.0 if metric == "memory" else median(pair.conditions.calibration for pair in usable(process))
    return math.log(process.starts[side][metric] / unit)


def _typical(case: Case, side: str, metric: str) -> float:
    if metric == "time":
        return median(median(compared(p)[side] for p in usable(process, comparable)) for process in case.processes)
    return median(process.starts[side][metric] for process in case.processes)


def _package_row(suite: Suite, base: int, head: int) -> list[Row]:
    """The size of the package, which has no noise."""
    ratio, threshold = head / base, 1 + suite.wheel_threshold / 100
    verdict = SLOWER if ratio >= threshold else FASTER if ratio <= 1 / threshold else SAME
    return [Row("package", "", "wheel", verdict, base, head, ratio, ratio, ratio, 1.0, threshold, 0.0, 0)]


def checks(cases: Iterable[Case]) -> list[OutputCheck]:
    """Compares the outputs of each case's sides with each other, and with the stored output where there is one."""
    found = []
    for case in cases:
        pairs: list[tuple[str, Path, Path]] = []
        if len(case.outputs) == 2:
            pairs.append(("head and base", case.outputs[HEAD], case.outputs[BASE]))
        if case.model.output:
            pairs += [(f"{side} and {case.model.output.name}", path, case.model.output)
                      for side, path in case.outputs.items()]  # fmt: skip
        for compared, ours, theirs in pairs:
            with np.load(ours) as first, np.load(theirs) as second:
                error = _difference([first[name] for name in first.files], [second[name] for name in second.files])
            found.append(OutputCheck(case.model.name, case.mode, compared, error, case.model.tolerance))
    return found


def _difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Infinite where the number of outputs, their shapes or the places of their NaNs differ."""
    worst = 0.0 if len(ours) == len(theirs) else math.inf
    for first, second in zip(ours, theirs):
        if first.dtype.kind not in "fiub" or second.dtype.kind not in "fiub":
            worst = worst if np.array_equal(first, second) else math.inf
            continue
        left, right = first.astype(np.float64), second.astype(np.float64)
        if left.shape != right.shape or not np.array_equal(np.isnan(left), np.isnan(right)):
            return math.inf
        equal = (left == right) | np.isnan(left)
        scale = float(np.max(np.abs(right), where=np.isfinite(right), initial=0.0)) or 1.0
        with np.errstate(invalid="ignore"):
            worst = max(worst, float(np.max(np.abs(left - right), where=~equal, initial=0.0)) / scale)
    return worst


def exit_code(rows: Iterable[Row], outputs: Iterable[OutputCheck], failures: Sequence[str]) -> int:
    """1: a side failed; 3: a row is slower or outputs differ; 4: the time of an inference is undecided; else 0."""
    verdicts = [(row.metric, row.verdict) for row in rows]
    if failures:
        return FAILED
    if any(verdict == SLOWER for _, verdict in verdicts) or not all(check.is_right for check in outputs):
        return WORSE
    return UNDECIDED if ("time", INCONCLUSIVE) in verdicts else PASSED


def _exponential(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
