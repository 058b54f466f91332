"""The sizes of a model's batches: its models on the device, and which of them are faster than smaller ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median_low
from time import perf_counter_ns
from typing import Protocol

from cpuruntime.devices import batch_gain
from cpuruntime.devices.batch.worker import Worker
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.errors import Error, OutOfMemoryError, UnsupportedError, printable
from cpuruntime.graph import Graph
from cpuruntime.host.timing import alternate
from cpuruntime.operators.batch_axis import enlarged

log = logging.getLogger("cpuruntime")

ROUNDS, MOST_ROUNDS = 3, 100
SECONDS = 2.0
SETTLED = 1.02
"""The median counts, as in `Window.note`: of ROUNDS where the best hardly differs from the second, else of as many as
take these seconds."""
TURNS = 7
"""How often each size is timed in a round while serving; arbitrary."""
NEAR = 1.5
"""Sizes that take up to so many times the best one's time for each inference are measured again while serving."""


@dataclass
class Sizes:
    """The model for single inferences, the models for batches, and why there are no others.

    Attributes:
        times: nanoseconds of a batch by its size, 1 included, with as many at a time as the device runs.
        workers: requests by size, one for each that the device runs at a time, and as many that follow.
        notes: sentences.
        turns: how often each size is timed in a round while serving.
    """

    single: DeviceModel
    models: dict[int, DeviceModel] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    workers: dict[int, list[Worker]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    turns: int = 0

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
    try:
        graphs = {size: enlarged(graph, size) for size in _classes(largest)}
    except UnsupportedError as error:
        found.notes.append(f"its inferences run one by one: {error}")
        return
    try:
        requests = [found.single.create_request() for _ in range(found.slots)]
        found.single.wait_until_optimized()
        _time(requests)
        shortest = min(_time(requests) for _ in range(ROUNDS))
        if shortest < batch_gain.SHORTEST:
            took = f"one takes {shortest / 1e6:.3g} ms"
            found.notes.append(f"its inferences run one by one: {took}, too little for groups")
            return
        for size, larger in graphs.items():
            try:
                found.models[size] = compile_it(larger)
            except (Error, MemoryError) as error:
                found.notes.append(f"no batches of {size} or more: {error}")
                break
        if found.models:
            _choose(found, requests)
    except (Error, MemoryError) as error:
        found.notes.append(f"its inferences run one by one: measuring batches failed: {error}")
        _drop(found, [*found.models])


def _choose(found: Sizes, single: list[DeviceRequest]) -> None:
    """Measure all sizes in turns, and drop those that are not enough faster than the best smaller one."""
    requests = {1: single}
    for size, model in [*found.models.items()]:
        try:
            found.workers[size] = [Worker(model, size) for _ in range(found.slots)]
        except (OutOfMemoryError, MemoryError) as error:
            found.notes.append(f"no batches of {size} or more: {error}")
            _drop(found, [one for one in found.models if one >= size])
            break
        requests[size] = [worker.request for worker in found.workers[size]]
        model.wait_until_optimized()
    runs = [partial(_time, own) for own in requests.values()]
    for run in runs:
        run()
    measured = alternate(runs, SECONDS, MOST_ROUNDS, ROUNDS, settled=SETTLED)
    times = {size: max(1, int(median_low(samples))) for size, samples in zip(requests, measured)}
    useless = batch_gain.useless(times)
    shortest = min(time / size for size, time in times.items())
    found.times, found.turns = times, TURNS
    for size in [*found.models]:
        took = f"a batch of {size} takes {times[size] / 1e6:.3g} ms, 1 {times[1] / 1e6:.3g} ms"
        if size not in useless:
            found.notes.append(f"{took}: it is used")
        elif times[size] <= NEAR * size * shortest:
            found.notes.append(f"{took}: it is timed again while serving")
        else:
            found.notes.append(f"{took}: it gains too little and is not used")
            _drop(found, [size])
    requests.clear()  # memory of sizes that were dropped
    runs.clear()
    for size, model in [*found.models.items()]:
        try:
            found.workers[size] += [Worker(model, size) for _ in range(found.slots)]
        except (OutOfMemoryError, MemoryError) as error:
            found.notes.append(f"no batches of {size} or more: {error}")
            _drop(found, [one for one in found.models if one >= size])
            break


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
