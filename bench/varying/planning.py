"""How long cpuruntime takes to plan and link a model for a new shape, and for a seen one, without running it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cpuruntime as ov
from cpuruntime.program.instances import instance_of
from cpuruntime.program.program import Program
from cpuruntime.testing.probes import device_of
from varying.subjects import SUBJECTS, shapes

FIRST, ENOUGH = 50, 100
"""Shapes before the measured ones, with which plans and their kernels are made; and measured shapes, at most."""

LIMITS = {"new": 1000.0, "seen": 20.0}
"""Microseconds that a new and a seen shape may take."""


@dataclass
class Planning:
    """Microseconds for each shape: to find or fill in its program, and to link that in a stream."""

    steps: int = 0
    plan: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LIMITS})
    link: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LIMITS})

    def total(self, name: str) -> float:
        """The median of both together."""
        return statistics.median(map(sum, zip(self.plan[name], self.link[name])))


def planning(subject: str) -> Planning:
    """The figures of a subject; each shape is looked up twice, the second time after all others."""
    compiled = ov.Core().compile_model(SUBJECTS[subject].build(), "CPU")
    programs = device_of(compiled).programs
    drawn = (sizes for sizes, _ in zip(shapes(subject), range(100 * (FIRST + ENOUGH))))
    every = list(itertools.islice(dict.fromkeys(drawn), FIRST + ENOUGH))
    found, state = Planning(), {}

    def look_up(sizes: Sequence[int], name: str | None) -> None:
        feeds = SUBJECTS[subject].feeds(tuple(sizes))
        values = [feeds[port.name] for port in programs.inputs]
        stage, planned = _timed(lambda: programs.of(values))
        assert isinstance(stage.whole, Program)
        _, linked = _timed(lambda: instance_of(state, stage.whole))
        found.steps = len(stage.whole.planned)
        if name is not None:
            found.plan[name].append(planned)
            found.link[name].append(linked)

    for sizes in every[:FIRST]:
        look_up(sizes, None)
    for name in LIMITS:
        for sizes in every[FIRST:]:
            look_up(sizes, name)
    return found


def table(found: dict[str, Planning]) -> Iterator[str]:
    """The figures of subjects as lines of a table."""
    yield "| microseconds | steps | new: plan | link | both | seen: find | link | both |"
    yield f"|---|{'---:|' * 7}"
    for subject, one in found.items():
        cells = [f"{one.steps}"]
        for name in LIMITS:
            parts = (statistics.median(one.plan[name]), statistics.median(one.link[name]), one.total(name))
            cells += [f"{microseconds:.1f}" for microseconds in parts]
        yield f"| {' | '.join([subject, *cells])} |"


def slow(found: dict[str, Planning]) -> list[str]:
    """What takes longer than it may."""
    return [
        f"{subject}: a {name} shape takes {one.total(name):.0f} us, more than {limit:g} us."
        for subject, one in found.items()
        for name, limit in LIMITS.items()
        if one.total(name) > limit
    ]


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and microseconds."""
    begin = time.perf_counter_ns()
    result = function()
    return result, (time.perf_counter_ns() - begin) / 1000
