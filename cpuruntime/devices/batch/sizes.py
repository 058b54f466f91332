"""The sizes of a model's batches: its models on the device, and which of them are faster than smaller ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns
from typing import Protocol

from cpuruntime.devices.batch.worker import Worker
from cpuruntime.devices.batch_gain import gains
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.errors import Error, UnsupportedError, printable
from cpuruntime.graph import Graph
from cpuruntime.host.timing import alternate
from cpuruntime.operators.batch_axis import enlarged

log = logging.getLogger("cpuruntime")

ROUNDS, MOST_ROUNDS = 3, 50
SECONDS = 0.1
"""The best of so many measurements counts, of as many as take these seconds, since noise only slows down."""


@dataclass
class Sizes:
    """The model for single inferences, the models for batches, and why there are no others.

    Attributes:
        times: nanoseconds of a batch by its size, 1 included, with as many at a time as the device runs.
        workers: requests by size, one for each that the device runs at a time.
        notes: sentences.
    """

    single: DeviceModel
    models: dict[int, DeviceModel] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    workers: dict[int, list[Worker]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def slots(self) -> int:
        """How many batches the device runs at a time."""
        return max(1, self.single.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def close(self) -> None:
        """Close all models."""
        for model in (self.single, *self.models.values()):
            model.close()


class Compile(Protocol):
    """Compiles a graph on the device."""

    def __call__(self, graph: Graph) -> DeviceModel: ...


def find_sizes(graph: Graph, largest: int, compile_it: Compile) -> Sizes:
    """The model of a graph and those for batches up to `largest` that are worth it; the caller closes them.

    Raises what compiling the graph itself raises.
    """
    found = Sizes(compile_it(graph))
    try:
        _add_all(found, graph, largest, compile_it)
    except BaseException:
        found.close()
        raise
    for note in found.notes:
        log.info("model '%s': %s", printable(graph.name), note)
    return found


def _add_all(found: Sizes, graph: Graph, largest: int, compile_it: Compile) -> None:
    for size in _classes(largest):
        try:
            larger = enlarged(graph, size)
        except UnsupportedError as error:
            found.notes.append(f"its inferences run one by one: {error}")
            return
        try:
            found.models[size] = compile_it(larger)
        except (Error, MemoryError) as error:
            found.notes.append(f"no batches of {size} or more: {error}")
            break
    if found.models:
        try:
            _choose(found)
        except (Error, MemoryError) as error:
            found.notes.append(f"its inferences run one by one: measuring batches failed: {error}")
            _drop(found, [*found.models])


def _choose(found: Sizes) -> None:
    """Measure all sizes in turns, and drop those that are not enough faster than the best smaller one."""
    requests = {1: [found.single.create_request() for _ in range(found.slots)]}
    for size, model in found.models.items():
        found.workers[size] = [Worker(model, size) for _ in range(found.slots)]
        requests[size] = [worker.request for worker in found.workers[size]]
    for model in (found.single, *found.models.values()):
        model.wait_until_optimized()
    runs = [partial(_time, own) for own in requests.values()]
    for run in runs:
        run()
    measured = alternate(runs, SECONDS, MOST_ROUNDS, ROUNDS)
    times = {size: max(1, int(min(samples))) for size, samples in zip(requests, measured)}
    found.times[1], best = times[1], 1
    for size in [*found.models]:
        took = f"a batch of {size} takes {times[size] / 1e6:.3g} ms, {best} {times[best] / 1e6:.3g} ms"
        if gains(size, times[size], best, times[best]):
            found.notes.append(f"{took}: it is used")
            found.times[size], best = times[size], size
        else:
            found.notes.append(f"{took}: it gains too little and is not used")
            _drop(found, [size])


def _drop(found: Sizes, sizes: Sequence[int]) -> None:
    for size in sizes:
        found.models.pop(size).close()
        found.workers.pop(size, None)
        found.times.pop(size, None)


def _classes(largest: int) -> list[int]:
    """2, 4, 8, ..., and the largest."""
    return [*(1 << power for power in range(1, (largest - 1).bit_length())), *([largest] if largest > 1 else [])]


def _time(requests: Sequence[DeviceRequest]) -> float:
    """Nanoseconds of inferences of all these requests at the same time, on what their memory holds."""
    began = perf_counter_ns()
    started: list[DeviceRequest] = []
    try:
        for request in requests:
            request.start()
            started.append(request)
    finally:
        for request in started:
            request.wait()
    for request in requests:
        error, _ = request.result()
        if error is not None:
            raise error
    return perf_counter_ns() - began
