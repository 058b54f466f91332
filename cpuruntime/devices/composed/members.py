"""The devices that serve a model together, their workers, and the inferences that these run."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, Protocol

from cpuruntime.devices.completion import Completion
from cpuruntime.devices.interface import DeviceModel, DeviceRequest, Terms

PAUSE = 100_000_000
"""Nanoseconds until a device that failed is tried again; twice as long after each further failure."""
LONGEST_PAUSE = 30_000_000_000
_WEIGHT = 0.2
_JUMP = 4.0
_numbers = itertools.count()
_RANKS = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}


class Lender(Protocol):
    """What an inference needs of its request."""

    taken: Worker | None
    """The worker that its own thread runs an inference by."""
    latest: Member | None
    """The device that had its latest inference."""

    def request_on(self, member: Member) -> DeviceRequest:
        """Its own request on a device, which works on its memory."""

    def collect(self, worker: DeviceRequest) -> None:
        """Take the results that the worker has in memory of its own, and what it knows of the inference."""


class Inference(Completion):
    """One inference of a request.

    Attributes:
        order: of those that wait the least is next: by priority, deadline and arrival; it stays when one runs again.
        worker: what runs it now; None while it waits.
        failed: the devices on which it has failed.
        is_awaited: whether a thread waits for its end; `is_submitted`: whether a dispatcher has had it.
    """

    worker: Worker | None = None
    failed: frozenset[Member] = frozenset()
    cancelled = is_awaited = is_submitted = False
    _alarm: threading.Timer | None = None

    def __init__(self, request: Lender, terms: Terms) -> None:
        self.request = request
        self.terms = terms
        self.order = (_RANKS[terms.priority], terms.deadline or math.inf, next(_numbers))

    @property
    def is_watched(self) -> bool:
        """Whether somebody is to be notified of its end."""
        return self.is_awaited or bool(self._functions)

    def __lt__(self, other: Inference) -> bool:
        return self.order < other.order

    def watch_deadline(self, expire: Callable[[Inference], None]) -> None:
        """Call a function when the deadline passes, unless the inference is over by then."""
        if self.terms.deadline and self._alarm is None:
            seconds = max(0, self.terms.deadline - perf_counter_ns()) / 1e9
            alarm = self._alarm = threading.Timer(min(seconds, threading.TIMEOUT_MAX), expire, (self,))
            alarm.daemon = True
            with suppress(RuntimeError):  # no more threads: the device ends it when it is to begin
                alarm.start()

    def end(self, error: BaseException | None) -> None:
        """The inference is over; a second call does nothing."""
        if self.settle(error):
            self.announce()

    def settle(self, error: BaseException | None) -> bool:
        """As `end`, but those who wait are told by `announce` only: whether it was not over before."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self.__dict__.pop("request", None) is None:  # it keeps the model open
            return False
        self.error, self.ended, self.is_over = error, perf_counter_ns(), True
        return True


def claim(member: Member, worker: Worker, now: int, lender: Lender | None = None) -> None:
    """Makes an idle worker busy, and the lender's if there is one.

    Nothing is called here, so that no interrupt splits it: see streams/handover.py.
    """
    del member.idle[worker]
    member.busy |= {worker}
    worker.began = now
    worker.turn += 1
    if lender is not None:
        lender.taken = worker


def free(worker: Worker, lender: Lender | None = None) -> None:
    """Makes a worker idle, which was the lender's if there is one; nothing is called, as in `claim`."""
    member = worker.member
    worker.started = worker.armed = False
    member.busy -= {worker}
    member.idle[worker] = None
    if lender is not None:
        lender.taken = None


class Worker:
    """Leave for one inference at a time on a device.

    Attributes:
        request: what runs the inference on the device: a lender's own, which does not hold the lender, or the model.
        inference: what it runs; None for one that the caller of `run` runs itself.
        started: whether the device has it; `armed`: whether the device calls the dispatcher after it.
        began: when it was claimed, on the clock of perf_counter_ns.
        turn: a number of what it runs now: by it a thread that was slow sees that its news are old.
    """

    __slots__ = ("armed", "began", "inference", "member", "request", "started", "turn")

    def __init__(self, member: Member, request: DeviceRequest) -> None:
        self.member = member
        self.request = request
        self.inference: Inference | None = None
        self.began = self.turn = 0
        self.started = self.armed = False

    def bind(self, lender: Lender) -> None:
        """Work on a lender's memory."""
        lender.latest = self.member
        self.request = lender.request_on(self.member)


class Member:
    """One of the devices: its model, its workers, and how it does. The dispatcher's lock guards all of it.

    Attributes:
        idle, busy: the workers without an inference, the one that was idle longest first, and the others.
        service: nanoseconds from handing an inference over to its end, as of late; None before the first.
        retry_at: when one that failed is tried again, on the clock of perf_counter_ns; 0 for one that serves.
        retired: it gets no more inferences, and its model is closed after the last.
        note: how it was compiled otherwise than alone, for people.
    """

    def __init__(self, name: str, model: DeviceModel, workers: int, config: Mapping[str, Any]) -> None:
        self.name = name
        self.model = model
        self.config = dict(config)
        self.count = workers
        self.idle = {Worker(self, model.create_request()): None for _ in range(workers)}
        self.busy: set[Worker] = set()
        self.service: float | None = None
        self.served = 0
        self.failures = 0
        self.retry_at = 0
        self.error: BaseException | None = None
        self.retired = False
        self.note = ""

    def measure(self) -> None:
        """Time an inference on a worker's own memory; raises what it raises."""
        request = next(iter(self.idle)).request
        request.run()  # the first one is slower
        began = perf_counter_ns()
        request.run()
        self.service = perf_counter_ns() - began

    def note_success(self, nanoseconds: int) -> None:
        """An inference took so long; one that took much longer than usual counts less."""
        self.served += 1
        self.failures = self.retry_at = 0
        self.error = None
        if self.service is None:
            self.service = nanoseconds
        else:
            most = _JUMP * self.service
            self.service += _WEIGHT * ((nanoseconds if nanoseconds < most else most) - self.service)

    def note_failure(self, error: BaseException, now: int) -> bool:
        """An inference failed because of the device, which now pauses: whether that is the first failure in a row."""
        self.error = error
        if self.retry_at <= now:  # others that were in flight with it tell nothing new
            self.retry_at = now + min(PAUSE << self.failures, LONGEST_PAUSE)
            self.failures += 1
            return self.failures == 1
        return False

    def takes(self, now: int) -> bool:
        """Whether it has an idle worker for the next inference: one that failed is tried with a single one."""
        if not self.idle or self.retired:
            return False
        return self.retry_at == 0 or (self.retry_at <= now and not self.busy)

    def assign(self, inference: Inference, now: int) -> Worker:
        """An idle worker, which is to run an inference."""
        worker = next(iter(self.idle))
        claim(self, worker, now)
        worker.inference, inference.worker = inference, worker
        return worker

    def describe(self) -> str:
        """What it has done, for people."""
        took = f", {self.service / 1e6:.3g} ms each as of late" if self.service is not None else ""
        state = f"{self.served} inferences by {self.count} requests{took}" + (f"; {self.note}" if self.note else "")
        if self.retry_at:
            state += f"; it failed and is tried again after a pause: {self.error}"
        return f"{self.name}: {state}"
