"""How long cpuruntime takes to plan and link a model for a new shape, and to bind and begin a seen one."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cpuruntime as ov
from cpuruntime.program.instances import instance_of
from cpuruntime.program.program import Program
from cpuruntime.testing.probes import again_of, bindings_of, device_of, device_request_of, streams_of
from varying.subjects import SUBJECTS, shapes

FIRST, ENOUGH = 50, 100
"""Shapes before the measured ones, with which plans and their kernels are made; and measured shapes, at most."""

SEEN, FAR = 30, 2**62
"""Shapes that are inferred twice and then seen, and a deadline that never comes."""

LIMITS = {"new": 1000.0, "seen": 20.0}
"""Microseconds that a new and a seen shape may take."""


@dataclass
class Planning:
    """Microseconds of each shape: to fill in a program, to link it in a stream, and to bind and begin a seen one."""

    steps: int = 0
    plan: list[float] = field(default_factory=list)
    link: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)

    def total(self, name: str) -> float:
        """The median of what a new or a seen shape takes."""
        return statistics.median(self.seen if name == "seen" else map(sum, zip(self.plan, self.link)))


def planning(subject: str) -> Planning:
    """The figures of a subject; seen shapes come in turn, with inputs that lie in the request's memory already."""
    compiled = ov.Core().compile_model(SUBJECTS[subject].build(), "CPU", {"NUM_STREAMS": 1})
    programs, request = device_of(compiled).programs, compiled.create_infer_request()
    device = device_request_of(request)
    drawn = (sizes for sizes, _ in zip(shapes(subject), range(100 * (FIRST + ENOUGH))))
    every = [SUBJECTS[subject].feeds(sizes) for sizes in itertools.islice(dict.fromkeys(drawn), FIRST + ENOUGH)]
    found, state = Planning(), {}
    for index, feeds in enumerate(every):
        values = [feeds[port.any_name] for port in compiled.inputs]
        stage, planned = _timed(partial(programs.of, values))
        assert isinstance(stage.whole, Program)
        _, linked = _timed(partial(instance_of, state, stage.whole))
        found.steps = len(stage.whole.planned)
        if index >= FIRST:
            found.plan.append(planned)
            found.link.append(linked)
    own = []
    for feeds in every[FIRST : FIRST + SEEN] * 2:
        request.infer(feeds)
        own.append([*bindings_of(request).call.owned])
    device.agree(device.priority, FAR)  # so that what binds does not run it, too
    bind, (stream, *_) = again_of(request), streams_of(device)
    for arrays in own[SEEN:] * 2:
        is_bound, bound = _timed(partial(bind, arrays, False, True))
        _, begun = _timed(partial(device.begin, stream))
        if is_bound is False:  # None for so many bytes that they are not copied by what binds
            found.seen.append(bound + begun)
    return found


def table(found: dict[str, Planning]) -> Iterator[str]:
    """The figures of subjects as lines of a table."""
    yield "| microseconds | steps | new: plan | link | both | seen |"
    yield f"|---|{'---:|' * 5}"
    for subject, one in found.items():
        figures = (statistics.median(one.plan), statistics.median(one.link), one.total("new"), one.total("seen"))
        yield f"| {' | '.join([subject, f'{one.steps}', *(f'{figure:.1f}' for figure in figures)])} |"


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
