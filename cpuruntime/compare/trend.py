"""A folder of stored runs as series over time, and the runs at which a series changes its level.

The value of a run is its head's, times in units of the run's calibration loop. A series is cut where the means on both
sides differ most, against what random orders of the same values show; the parts are cut again in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median

import numpy as np

from cpuruntime.compare.page import document, scatter
from cpuruntime.compare.record import Run, read_run
from cpuruntime.compare.verdicts import HEAD, normalised, usable_processes
from cpuruntime.errors import InvalidArgumentError, printable

METRICS = ("time", "startup", "first", "memory")
FEWEST = 3
"""Runs on each side of a change."""
ORDERS = 1999
P_VALUE = 0.01
LEAST = math.log(1.01)
"""The smallest change that is reported."""


@dataclass(frozen=True)
class Series:
    """A metric of a model in a mode over runs: logarithms of the values, and the places at which new levels begin."""

    model: str
    mode: str
    metric: str
    runs: Sequence[Run]
    values: Sequence[float]
    changes: Sequence[int]

    def lines(self) -> list[str]:
        """A sentence for the series and one for each change."""
        found = [f"{self.model} {self.mode} {self.metric}: {len(self.runs)} runs, {len(self.changes)} changes"]
        for place in self.changes:
            run = self.runs[place]
            found.append(f"  {self.step(place):+.1%} since {run.moment}: {run.sides[HEAD]['label']}")
        return found

    def step(self, place: int) -> float:
        """The change at a place, between the medians of the levels before and after, as a share."""
        limits = [0, *self.changes, len(self.values)]
        at = limits.index(place)
        before, after = (self.values[limits[at + k - 1] : limits[at + k]] for k in (0, 1))
        return math.exp(median(after) - median(before)) - 1


def read_folder(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder by date, and a line for each other JSON file. Raises InvalidArgumentError without runs."""
    runs, others = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            runs.append(read_run(path))
        except InvalidArgumentError as error:
            others.append(str(error))
    if not runs:
        reason = f": {others[0]}" if others else "; 'cpuruntime compare --json' writes them"
        raise InvalidArgumentError(f"'{printable(str(folder))}' has no runs{reason}")
    return sorted(runs, key=lambda run: run.date), others


def series(runs: Sequence[Run]) -> list[Series]:
    """All series of the runs."""
    found: dict[tuple[str, str, str], tuple[list[Run], list[float]]] = {}
    for run in runs:
        for case in run.cases:
            for metric in METRICS if case.processes else ():
                values = [normalised(process, metric) for process in usable_processes(case, metric)]
                dates, levels = found.setdefault((case.model.name, case.mode, metric), ([], []))
                dates.append(run)
                levels.append(median(values))
    return [Series(*key, dates, levels, changes(levels)) for key, (dates, levels) in found.items()]


def changes(values: Sequence[float]) -> list[int]:
    """The places at which a new level begins."""
    return _cuts(np.asarray(values, np.float64), 0, np.random.default_rng(0))


def _cuts(values: np.ndarray, begin: int, random: np.random.Generator) -> list[int]:
    if len(values) < 2 * FEWEST:
        return []
    contrasts = _contrasts(values[None])[0]
    place = int(contrasts.argmax()) + FEWEST
    orders = random.permuted(np.tile(values, (ORDERS, 1)), axis=1)
    as_large = np.count_nonzero(_contrasts(orders).max(axis=1) >= contrasts.max())
    before, after = values[:place], values[place:]
    if (as_large + 1) / (ORDERS + 1) > P_VALUE or abs(np.median(after) - np.median(before)) < LEAST:
        return []
    return [*_cuts(before, begin, random), begin + place, *_cuts(after, begin + place, random)]


def _contrasts(rows: np.ndarray) -> np.ndarray:
    """For each row and place, the difference of the means on both sides in units of its expected spread."""
    count = rows.shape[1]
    places = np.arange(FEWEST, count - FEWEST + 1)
    sums = np.cumsum(rows, axis=1)
    before = sums[:, places - 1] / places
    after = (sums[:, -1:] - sums[:, places - 1]) / (count - places)
    return np.abs(after - before) * np.sqrt(places * (count - places) / count)


def page(found: Sequence[Series]) -> str:
    """One self-contained HTML page with a plot of each series, relative to its first run."""
    parts = ["<h1>cpuruntime history</h1>", "<p>Each dot is a run, in percent of the first; lines are changes.</p>"]
    for each in found:
        percents = [100 * math.exp(value - each.values[0]) for value in each.values]
        labels = [f"{run.date}: {run.sides[HEAD]['label']}" for run in each.runs]
        title, *steps = each.lines()
        parts += [f"<h2>{escape(title)}</h2>", scatter(percents, ["#444"] * len(percents), each.changes, labels)]
        parts += [f"<p>{escape(step)}</p>" for step in steps]
    return document("cpuruntime history", parts)
