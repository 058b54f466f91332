"""The gate of a model under a latency target: it gives the time to an admission, which decides, and locks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter_ns

from cpuruntime.devices.cpu.latency.admission import Admission, Counts, Ticket
from cpuruntime.errors import OverloadedError
from cpuruntime.hints import counted
from cpuruntime.host import forks

BatchSize = Callable[[Sequence[Ticket]], int]
"""How many of these tickets, the next ones of the queue, are best served as one batch, from the first on."""

Coalesce = Callable[[BatchSize], Sequence[Ticket]]
"""Takes from the queue the inferences that are served in one batch with the one that begins."""


class Gate:
    """Counts inferences in and out; may be used from several threads.

    `lock` is held where `admission` is used; it also guards which requests form a batch.
    """

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.lock = threading.Lock()
        self._generation = forks.generation
        forks.objects.add(self)

    def _forked(self) -> None:
        """Called in a forked child, where the thread that held the lock does not exist."""
        self.lock = threading.Lock()

    def arrive(self) -> Ticket:
        """A ticket for an inference that starts now.

        Raises:
            OverloadedError: it would be late.
            Error: in a forked child.
        """
        forks.check(self._generation)
        now = perf_counter_ns()
        with self.lock:
            admission = self.admission
            ticket = admission.arrive(now)
            if ticket is not None:
                return ticket
            counts, service = admission.counts, admission.variants[admission.active].time(1)
        raise OverloadedError(
            f"Inference refused: {counted(admission.waiting, 'other')} wait for a stream and one takes "
            f"{service / 1e6:.3g} ms, so LATENCY_TARGET_MS {admission.target / 1e6:g} would be missed; "
            f"{counts.refused + counts.given_up} refused so far. Send less, or let the target be longer."
        )

    def begin(self, ticket: Ticket, coalesce: Coalesce) -> None:
        """A stream begins an inference, and those that are coalesced with it.

        Raises:
            OverloadedError: it would be late by now; the others still wait.
        """
        now = perf_counter_ns()
        with self.lock:
            others = coalesce(lambda tickets: self.admission.batch_size(tickets, now))
            if self.admission.begin(ticket, now, others):
                return
        waited = (now - ticket.arrived) / 1e6
        raise OverloadedError(
            f"Inference refused: it waited {waited:.3g} ms for a stream, longer than expected, and LATENCY_TARGET_MS "
            f"{self.admission.target / 1e6:g} would be missed."
        )

    def end(self, ticket: Ticket, error: BaseException | None, ended: int) -> None:
        """An inference is over since `ended` on the clock of perf_counter_ns, and is about to be notified."""
        notified = perf_counter_ns()
        with self.lock:
            self.admission.end(ticket, ended, notified, error is None)

    @property
    def counts(self) -> Counts:
        """How many inferences were refused, on time and late so far."""
        with self.lock:
            return replace(self.admission.counts)
