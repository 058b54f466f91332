"""The measuring loops of `cpuruntime benchmark` and what they yield.

The closed loops and their figures are those of OpenVINO's benchmark_app, so that the numbers can be compared: latency
is the request's own, throughput is the number of frames over the wall time until the last inference is completed. In
the open loop latency begins when the request was due.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.benchmark.feed import Feed

Watch = Callable[[float, int], None]
"""Called in the loop with the seconds and the number of inferences so far."""

PERCENTILES = (50, 90, 99, 99.9)

ANATOMY_EVERY, ANATOMY_FIRST = 16, 256
"""Of fast inferences behind the first ones every 16th is taken apart: that takes longer than noting its latency."""
FAST_MS = 0.5
_MOST_UNSERVED = 1_000_000


@dataclass(frozen=True)
class Limits:
    """When to stop. With both limits set, measuring goes on until both are reached."""

    seconds: float | None = None
    iterations: int | None = None

    def reached(self, seconds: float, iterations: int) -> bool:
        """True when no limit asks for more."""
        more_time = self.seconds is not None and seconds < self.seconds
        more_iterations = self.iterations is not None and iterations < self.iterations
        return not (more_time or more_iterations)

    def share_done(self, seconds: float, iterations: int) -> float:
        """The completed part of the measurement, from 0 to 1."""
        shares = [1.0]
        if self.seconds:
            shares.append(seconds / self.seconds)
        if self.iterations:
            shares.append(iterations / self.iterations)
        return min(shares)

    def aligned(self, multiple: int) -> Limits:
        """The same limits with the iterations rounded up to a multiple."""
        if not self.iterations:
            return self
        return Limits(self.seconds, math.ceil(self.iterations / multiple) * multiple)

    def __str__(self) -> str:
        parts = []
        if self.seconds is not None:
            parts.append(f"{self.seconds * 1000:g} ms duration")
        if self.iterations is not None:
            parts.append(f"{self.iterations} iterations")
        return ", ".join(parts) or "the end of the trace"


@dataclass
class Measurement:
    """What a loop measured; while it runs and after it was interrupted, what it has measured so far.

    Attributes:
        latencies: milliseconds of each inference, in the order in which their ends were noticed.
        moments: the seconds since the beginning at which that was.
        groups: which shapes each had, as the feed counts them.
        frames: of all inferences together.
        seconds: wall time. cpu_seconds: processor time of the whole process.
        queued, executed: milliseconds of those inferences that were taken apart.
        unserved: milliseconds that requests of an open load had waited in vain when the time was over.
    """

    latencies: array[float] = field(default_factory=lambda: array("d"))
    moments: array[float] = field(default_factory=lambda: array("d"))
    groups: array[int] = field(default_factory=lambda: array("l"))
    frames: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    queued: array[float] = field(default_factory=lambda: array("d"))
    executed: array[float] = field(default_factory=lambda: array("d"))
    unserved: array[float] = field(default_factory=lambda: array("d"))

    @contextmanager
    def timed(self) -> Iterator[float]:
        """A context that notes wall and processor time, also when an error ends it; yields the clock's beginning."""
        start, cpu = time.perf_counter(), time.process_time()
        try:
            yield start
        finally:
            self.seconds = max(time.perf_counter() - start, 1e-9)
            self.cpu_seconds = time.process_time() - cpu

    def note(self, request: ov.InferRequest, seconds: float, group: int = 0, waited: float = 0.0) -> None:
        """Note an inference that is over, before which its request had waited so many milliseconds."""
        latency = request.latency + waited
        self.latencies.append(latency)
        self.moments.append(seconds)
        self.groups.append(group)
        count = len(self.latencies)
        if latency > FAST_MS or count <= ANATOMY_FIRST or count % ANATOMY_EVERY == 0:
            anatomy = request.latency_anatomy
            self.queued.append(anatomy.queued + waited)
            self.executed.append(anatomy.executed)

    def note_arrival(self, request: ov.InferRequest, group: int, waited: float, due: float) -> None:
        """Note an inference that was due at a moment in seconds, and began so many milliseconds later."""
        self.note(request, 0.0, group, waited)
        self.moments[-1] = due + self.latencies[-1] / 1000

    @property
    def iterations(self) -> int:
        return len(self.latencies)

    @property
    def throughput(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """Processor time an inference."""
        return self.cpu_seconds * 1000 / self.iterations

    def figures(self, group: int | None = None) -> Figures:
        """The figures of all latencies, or of those of a group. There must be one."""
        if group is None:
            return Figures(np.sort(np.concatenate([self.latencies, self.unserved])))
        return Figures(np.sort(np.array(self.latencies)[np.array(self.groups) == group]))


@dataclass(frozen=True)
class Figures:
    """Sorted latencies in milliseconds."""

    sorted: np.ndarray

    @property
    def average(self) -> float:
        return float(self.sorted.mean())

    @property
    def least(self) -> float:
        return float(self.sorted[0])

    @property
    def most(self) -> float:
        return float(self.sorted[-1])

    def percentile(self, percent: float) -> float:
        """The latency that `percent` percent of the inferences do not exceed."""
        # 99.9 % of 1000 are 999, and not 999.0000000001 of them.
        return float(self.sorted[math.ceil(round(len(self.sorted) * percent / 100, 6)) - 1])


def measure_sync(
    request: ov.InferRequest, feed: Feed, limits: Limits, rate: float | None, watch: Watch, found: Measurement
) -> None:
    """Infers with one request, one inference after the other, until the limits are reached."""
    with found.timed() as start:
        seconds = 0.0
        while not limits.reached(seconds, found.iterations):
            group = feed.fill(request)
            request.infer()
            seconds = time.perf_counter() - start
            found.frames += feed.batches[group]
            found.note(request, seconds, group)
            watch(seconds, found.iterations)
            _keep_rate(rate, found.frames, seconds)


def measure_async(
    queue: ov.AsyncInferQueue, feed: Feed, limits: Limits, rate: float | None, watch: Watch, found: Measurement
) -> None:
    """Keeps every request of the queue running until the limits are reached, and each, or each shape, had its turns."""
    running: dict[int, int] = {}
    multiple = feed.turns(len(queue))
    iterations = 0
    with found.timed() as start:
        seconds = 0.0
        while not limits.reached(seconds, iterations) or iterations % multiple:
            index = queue.get_idle_request_id()
            if index in running:
                found.note(queue[index], seconds, running[index])
            running[index] = group = feed.fill(queue[index])
            queue.start_async()
            iterations += 1
            found.frames += feed.batches[group]
            seconds = time.perf_counter() - start
            watch(seconds, iterations)
            _keep_rate(rate, found.frames, seconds)
        queue.wait_all()
    for index, group in running.items():
        found.note(queue[index], found.seconds, group)


def measure_open(
    queue: ov.AsyncInferQueue, feed: Feed, arrivals: Iterator[float], limits: Limits, watch: Watch, found: Measurement
) -> None:
    """Starts an inference when each request arrives, or as soon as one of the queue's is idle after that.

    A request that arrives late because others are not finished has waited from the moment at which it was due. Those
    that arrive within the time limit and cannot start within it are noted as unserved.
    """
    running: dict[int, tuple[int, float, float]] = {}
    most = math.inf if limits.seconds is None else limits.seconds
    started = 0
    with found.timed() as start:
        for due in islice(arrivals, limits.iterations):
            if due > most:
                break
            time.sleep(max(0.0, due - (time.perf_counter() - start)))
            index = queue.get_idle_request_id()
            seconds = time.perf_counter() - start
            if index in running:
                found.note_arrival(queue[index], *running.pop(index))
            if seconds > most:
                late = takewhile(lambda moment: moment < most, chain([due], arrivals))
                found.unserved.extend((seconds - moment) * 1000 for moment in islice(late, _MOST_UNSERVED))
                break
            group = feed.fill(queue[index])
            waited = time.perf_counter() - start - due
            queue.start_async()
            started += 1
            running[index] = group, waited * 1000, due
            found.frames += feed.batches[group]
            watch(seconds, started)
        queue.wait_all()
    for index, terms in running.items():
        found.note_arrival(queue[index], *terms)


def _keep_rate(rate: float | None, frames: int, seconds: float) -> None:
    """Sleep while there were more frames than `rate` a second."""
    if rate is not None and (delay := frames / rate - seconds) > 0:
        time.sleep(delay)
