"""Batches of a model's inferences: whether they are faster, their programs, and their memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf

import numpy as np

from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.cpu.streams.calibration import all_at_once
from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.host.timing import alternate
from cpuruntime.operators.batch_axis import enlarged
from cpuruntime.program.program import Program

SHORTEST = 100_000
"""Nanoseconds of an inference; below it copying inputs and outputs would dominate."""

LARGEST = 5
"""Batches are of 2**LARGEST inferences at most; arbitrary."""

GAIN = 0.92
"""Doubling the batch must cut the time per inference to this fraction."""

ROUNDS = 3
MEASURED_SECONDS = 0.05
"""The best of ROUNDS measurements counts, since noise only slows down."""


class Batch(CpuRequest):
    """A request for a program that runs `count` inferences at once, with memory for all their inputs and outputs."""

    def __init__(self, model: CpuModel, program: Program, count: int) -> None:
        super().__init__(model.programs, model.executor)
        self.count = count
        for index, shape in enumerate(program.input_shapes):
            self.input_array(index, shape)
        for index, shape in enumerate(program.output_shapes):
            self.set_output(index, aligned_zeros(shape, self._outputs[index].dtype))
        self._program = program

    @property
    def inputs(self) -> list[np.ndarray]:
        """[count, ...] for each input; row i belongs to inference i."""
        return [self._rows(array) for array in self.bound_inputs()]

    @property
    def outputs(self) -> list[np.ndarray]:
        """Likewise for each output."""
        return [self._rows(array) for array in self._outputs]

    def gather(self, requests: Sequence[CpuRequest]) -> None:
        """Copy the inputs of at most `count` requests into the batch."""
        for index, rows in enumerate(self.inputs):
            for row, request in zip(rows, requests):
                row[...] = request._inputs[index]

    def hand_out(self, requests: Sequence[CpuRequest]) -> None:
        """Copy the results to the requests."""
        for index, rows in enumerate(self.outputs):
            for row, request in zip(rows, requests):
                request.output_array(index)[...] = row

    def _rows(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.count, array.shape[0] // self.count, *array.shape[1:])


class Batches:
    """The programs of a model for batches of 2, 4, 8... inferences, and their memory.

    `times` are nanoseconds of a batch of each size with all streams busy.
    """

    def __init__(self, model: CpuModel) -> None:
        self.times: list[int] = []
        self._model = model
        self._programs: list[Program] = []
        self._idle: list[list[Batch]] = []

    @property
    def most(self) -> int:
        return 1 << len(self._programs)

    def add(self, program: Program, time: int, idle: list[Batch]) -> None:
        """Add the next larger size, with idle batches."""
        self._programs.append(program)
        self._idle.append(idle)
        self.times.append(time)

    def take(self, count: int) -> Batch:
        """An idle batch for so many inferences, 2 or more; its size is the next power of two."""
        size = (count - 1).bit_length() - 1
        try:
            return self._idle[size].pop()
        except IndexError:
            return Batch(self._model, self._programs[size], 2 << size)

    def give(self, batch: Batch) -> None:
        """Return a batch that is idle again."""
        self._idle[batch.count.bit_length() - 2].append(batch)


def plan_batches(model: CpuModel, graph: Graph, service: int, target: int) -> Batches:
    """The batches that make inferences faster; none unless every result is independent of the rest of its batch.

    The model is idle and of static shapes, `graph` before the passes; `service`, the time of one inference with all
    streams busy, and `target` are nanoseconds. A batch may take half of the target: inferences that arrive wait for it.
    """
    found = Batches(model)
    time = service
    while service >= SHORTEST and time <= target / 2 and len(found.times) < LARGEST:
        count = 2 * found.most
        try:
            larger = enlarged(graph, count)
        except UnsupportedError:
            break
        program = model.programs.plan(optimise(larger))
        batches = [Batch(model, program, count) for _ in model.executor.streams]
        all_at_once(batches, 0)
        if not batches[0].whole:
            break
        run = partial(all_at_once, batches, MEASURED_SECONDS)
        doubled = int(1e9 * len(batches) * min(alternate([run], inf, ROUNDS)[0]))
        if doubled > min(2 * GAIN * time, target / 2):
            break
        found.add(program, doubled, batches)
        time = doubled
    return found
