"""The sizes of a model's batches: its models on the device, and which of them are faster than smaller ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Protocol

from cpuruntime.devices.batch.worker import Worker
from cpuruntime.devices.batch_gain import gains
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.errors import Error, UnsupportedError, printable
from cpuruntime.graph import Graph
from cpuruntime.operators.batch_axis import enlarged

log = logging.getLogger("cpuruntime")

ROUNDS = 3
MEASURED = 50_000_000
"""The best of ROUNDS measurements counts, or of more that take these nanoseconds, since noise only slows down."""


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
            if not found.times:
                found.single.wait_until_optimized()
                found.times[1] = _measured([found.single.create_request() for _ in range(found.slots)])
            _add(found, size, compile_it(larger))
        except (Error, MemoryError) as error:
            found.notes.append(f"no batches of {size} or more: {error}")
            return


def _add(found: Sizes, size: int, model: DeviceModel) -> None:
    """Keep the model for a size if it is faster than the best smaller one."""
    try:
        model.wait_until_optimized()
        workers = [Worker(model, size) for _ in range(found.slots)]
        time = _measured([worker.request for worker in workers])
    except BaseException:
        model.close()
        raise
    best = min(found.times, key=lambda smaller: found.times[smaller] / smaller)
    took = f"a batch of {size} takes {time / 1e6:.3g} ms, {best} {found.times[best] / 1e6:.3g} ms"
    if gains(size, time, best, found.times[best]):
        found.models[size], found.times[size], found.workers[size] = model, time, workers
        found.notes.append(f"{took}: it is used")
    else:
        model.close()
        found.notes.append(f"{took}: it gains too little and is not used")


def _classes(largest: int) -> list[int]:
    """2, 4, 8, ..., and the largest."""
    return [*(1 << power for power in range(1, (largest - 1).bit_length())), *([largest] if largest > 1 else [])]


def _measured(requests: Sequence[DeviceRequest], clock: Callable[[], int] | None = None) -> int:
    """Nanoseconds of inferences of all these requests at the same time, on what their memory holds; the best counts."""
    clock = clock or perf_counter_ns
    times: list[int] = []
    first = clock()
    while len(times) <= ROUNDS or clock() - first < MEASURED:
        began = clock()
        started: list[DeviceRequest] = []
        try:
            for request in requests:
                request.start()
                started.append(request)
        finally:
            for request in started:
                while not request.is_over:
                    with suppress(KeyboardInterrupt):
                        request.wait()
        times.append(clock() - began)
        for request in requests:
            error, _ = request.result()
            if error is not None:
                raise error
    return min(times[1:])
