"""Times steps: alone, again and again, and in the order of the program; the peak is measured in between."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from cpuruntime.program.plan.step import Step
from cpuruntime.program.report.roofs import FmaPeak, seconds
from kernel.program import Runnable, same_work

SAMPLE_SECONDS = 0.004
MOST_CALLS = 50


@dataclass
class Timing:
    """One kind of step. `alone` and `in_program` are seconds of a call, one figure a round; `peaks` go with `alone`.

    `best` is the fastest call of all rounds.
    """

    step: Step
    count: int = 0
    best: float = float("inf")
    alone: list[float] = field(default_factory=list)
    in_program: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of a call alone."""
        return statistics.median(self.alone)

    @property
    def within(self) -> float:
        """Seconds of a call in the program's order."""
        return statistics.median(self.in_program)

    def share(self, flops: float) -> float:
        """Median share of the peak that was measured just before."""
        return statistics.median(flops / time / peak for time, peak in zip(self.alone, self.peaks))


def sample(call: Callable[[], None]) -> tuple[float, float]:
    """Median and least seconds of as many calls as fill SAMPLE_SECONDS, at least 3."""
    first = seconds(call)
    calls = min(MOST_CALLS, max(3, round(SAMPLE_SECONDS / max(first, 1e-9))))
    durations = [seconds(call) for _ in range(calls)]
    return statistics.median(durations), min(durations)


def measure_program(runnable: Runnable, wanted: Callable[[Step], bool], rounds: int, peak: FmaPeak) -> list[Timing]:
    """Times the steps that `wanted` takes, equal ones together; each round is one inference and one pass of samples."""
    timings: dict[Hashable, Timing] = {}
    keys = [same_work(step) if wanted(step) else None for step in runnable.steps]
    for key, step in zip(keys, runnable.steps):
        if key is not None:
            timings.setdefault(key, Timing(step)).count += 1
    for _ in range(rounds):
        _run_in_order(runnable, keys, timings)
        seen: set[Hashable] = set()
        for key, call in zip(keys, runnable.calls):
            if key is not None and key not in seen:
                seen.add(key)
                timing = timings[key]
                timing.peaks.append(peak.measure())
                median, least = sample(call)
                timing.alone.append(median)
                timing.best = min(timing.best, least)
            else:
                call()
        peak.measure()
    return list(timings.values())


def _run_in_order(runnable: Runnable, keys: Sequence[Hashable], timings: dict[Hashable, Timing]) -> None:
    found: dict[Hashable, list[float]] = {}
    for key, call in zip(keys, runnable.calls):
        found.setdefault(key, []).append(seconds(call))
    for key, timing in timings.items():
        timing.in_program.append(statistics.fmean(found[key]))
