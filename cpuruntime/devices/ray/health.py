"""Whether replicas answer: each is asked now and then, and one that stays silent is given up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any

from cpuruntime.devices.ray.cluster import Cluster

PERIOD, SILENCE = 10_000_000_000, 30_000_000_000
"""Nanoseconds between an answer and the next question, and after which a replica without an answer is given up."""


@dataclass(eq=False)
class Pulse:
    """What is known of a replica's process.

    Attributes:
        silent: called when it does not answer; `heard` with the number of its process or an error.
        has_answered: since it was started, or started again.
        asked: how often it was asked; `answered` is the number of the last question that was answered.
    """

    actor: Any = None
    silent: Callable[[], None] = lambda: None
    heard: Callable[[Any, BaseException | None], None] = lambda process, error: None
    has_answered: bool = False
    asked: int = 0
    answered: int = 0
    is_over: bool = False


class Health:
    """Asks replicas whether they are there. Its methods run on one thread.

    A process that has not answered yet may be waiting for its CPUs, or start slowly, and is not given up.

    Args:
        post: has a function called on that thread; from any thread.
        later: has one called there at a time on the clock of perf_counter_ns.
    """

    def __init__(
        self,
        cluster: Cluster,
        post: Callable[[Callable[[], None]], None],
        later: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self._cluster, self._post, self._later = cluster, post, later

    def ask(self, pulse: Pulse) -> None:
        """Ask a replica now, and from then on until its pulse is over."""
        if pulse.is_over:
            return
        pulse.asked += 1
        number, due = pulse.asked, perf_counter_ns() + SILENCE

        def done(value: Any, error: BaseException | None) -> None:
            self._post(partial(self._answered, pulse, number, value, error))

        self._later(due, partial(self._check, pulse, number, due))
        with suppress(Exception):  # the cluster may be gone
            self._cluster.call(pulse.actor, "ping", (), done, group="health")

    def _answered(self, pulse: Pulse, number: int, process: Any, error: BaseException | None) -> None:
        pulse.answered = max(pulse.answered, number)
        pulse.has_answered = error is None
        if pulse.is_over or number != pulse.asked:
            return
        self._later(perf_counter_ns() + PERIOD, partial(self._ask_next, pulse, number))
        pulse.heard(process, error)

    def _ask_next(self, pulse: Pulse, number: int) -> None:
        if number == pulse.asked:
            self.ask(pulse)

    def _check(self, pulse: Pulse, number: int, due: int) -> None:
        """A question should have been answered by now."""
        if pulse.is_over or pulse.answered >= number or not pulse.has_answered:
            return
        now = perf_counter_ns()
        if now - due > PERIOD:  # this process itself stood still
            self._later(now + SILENCE, partial(self._check, pulse, number, now + SILENCE))
        else:
            pulse.silent()
