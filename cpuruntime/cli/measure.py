"""The measuring loops of `cpuruntime benchmark` and what they yield.

The loops and figures are those of OpenVINO's benchmark_app, so that the numbers can be compared: latency is the
request's own, throughput is the number of inferences over the wall time until the last one is completed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cpuruntime as ov

Watch = Callable[[float, int], None]
"""Called in the loop with the seconds and the number of inferences so far."""


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

    def aligned(self, requests: int) -> Limits:
        """The same limits with the iterations rounded up to a multiple of `requests`."""
        if not self.iterations:
            return self
        return Limits(self.seconds, math.ceil(self.iterations / requests) * requests)

    def __str__(self) -> str:
        parts = []
        if self.seconds is not None:
            parts.append(f"{self.seconds * 1000:g} ms duration")
        if self.iterations is not None:
            parts.append(f"{self.iterations} iterations")
        return ", ".join(parts)


@dataclass(frozen=True)
class Measurement:
    """The result of a loop: `seconds` of wall time and one latency in milliseconds for each inference, sorted."""

    seconds: float
    latencies: Sequence[float]

    @property
    def iterations(self) -> int:
        return len(self.latencies)

    @property
    def average(self) -> float:
        return sum(self.latencies) / len(self.latencies)

    def percentile(self, percent: int) -> float:
        """The latency that `percent` percent of the inferences do not exceed, in milliseconds."""
        return self.latencies[math.ceil(len(self.latencies) * percent / 100) - 1]

    def throughput(self, batch: int) -> float:
        """Frames per second."""
        return batch * self.iterations / self.seconds


def measure_sync(request: ov.InferRequest, limits: Limits, watch: Watch) -> Measurement:
    """Infers with one request, one inference after the other, until the limits are reached."""
    latencies: list[float] = []
    start = time.perf_counter()
    seconds = 0.0
    while not limits.reached(seconds, len(latencies)):
        request.infer()
        latencies.append(request.latency)
        seconds = time.perf_counter() - start
        watch(seconds, len(latencies))
    return Measurement(max(seconds, 1e-9), sorted(latencies))


def measure_async(queue: ov.AsyncInferQueue, limits: Limits, watch: Watch) -> Measurement:
    """Keeps every request of the queue running until the limits are reached and each ran equally often."""
    latencies: list[float] = []
    started: set[int] = set()
    iterations = 0
    start = time.perf_counter()
    seconds = 0.0
    while not limits.reached(seconds, iterations) or iterations % len(queue):
        index = queue.get_idle_request_id()
        if index in started:
            latencies.append(queue[index].latency)
        started.add(index)
        queue.start_async()
        iterations += 1
        seconds = time.perf_counter() - start
        watch(seconds, iterations)
    queue.wait_all()
    seconds = time.perf_counter() - start
    latencies.extend(queue[index].latency for index in started)
    return Measurement(max(seconds, 1e-9), sorted(latencies))
