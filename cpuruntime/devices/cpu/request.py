"""One inference at a time on the CPU: bound memory, and the run of a program by a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import cast

import numpy as np

from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.host.memory import ALIGNMENT, aligned_zeros, allocate
from cpuruntime.program.plan.step import FallbackStep
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Instance, Program
from cpuruntime.streams import priorities
from cpuruntime.streams.base import Executor
from cpuruntime.streams.handover import rebind
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Signal, Stream, Task

MOST_INSTANCES = 256
"""Programs of a dynamic model that are linked in each stream, at most; arbitrary."""
ARENA = "arena"
"""The key of a stream's arena, in which all programs work, among its instances by program."""

LEVELS = {"LOW": priorities.LOW, "MEDIUM": priorities.MEDIUM, "HIGH": priorities.HIGH}
"""The numbers of priorities in streams."""


class CpuRequest(Task, BoundArrays, DeviceRequest):
    """The arrays of one inference at a time, and what a stream executes for it."""

    def __init__(self, programs: Programs, executor: Executor) -> None:
        super().__init__()
        self._programs = programs
        self._executor = executor
        self._input_addresses = [0] * len(programs.inputs)
        self._users = [False] * len(programs.outputs)
        self._bound = object()
        self._program: Program | None = None
        self._instance: Instance | None = None
        self._profile: tuple[Program, np.ndarray] | None = None
        self._terms = TERMS
        # When an inference of several parts began.
        self._began = 0
        self.bind_own(programs.inputs, programs.outputs)
        self._output_addresses = [array.ctypes.data for array in self._outputs]
        self.memory = (self._inputs, self._outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        old = self._inputs[index]
        if old is None or old.shape != array.shape:
            self._program = None
        rebind(self, self._inputs, self._input_addresses, index, array, array.ctypes.data, object())

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._bind_output(index, array)
        self._users[index] = True
        self._program = None

    def _bind_output(self, index: int, array: np.ndarray) -> None:
        rebind(self, self._outputs, self._output_addresses, index, array, array.ctypes.data, object())

    def run(self) -> None:
        """Run one inference by an idle stream and this thread, or wait for a stream."""
        if self._terms is not TERMS:
            self._accept(TERMS)
        self._executor.run(self)

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> None:
        if self._terms is not terms:
            self._accept(terms)
        self.placed = False
        self._executor.submit(self, function)

    def _accept(self, terms: Terms) -> None:
        self._terms = terms
        self.agree(LEVELS[terms.priority], terms.deadline)

    def notify(self, function: Callable[[], None]) -> None:
        self._executor.notify(self, function)

    def moments(self) -> tuple[int, int, int]:
        return self.taken, self.control.began if self._instance is None else self._began, self.control.ended

    def result(self) -> tuple[BaseException | None, int]:
        return self.error, self.control.ended

    def any_completion(self, requests: Sequence[DeviceRequest]) -> Signal:
        """A signal that streams give at the end of an inference, without the interpreter."""
        return Signal(cast("Sequence[CpuRequest]", requests))

    def cancel(self) -> bool:
        self._executor.cancel(self)
        return self.is_in_flight

    @property
    def is_in_flight(self) -> bool:
        """Whether an inference was queued and is not over."""
        return self.placed and not self.is_over and not self.is_lost

    def begin(self, stream: Stream) -> Job | None:
        """Bind the memory to the stream's instance of the program for these shapes, and start it."""
        program = self._program or self._choose_program()
        instance = stream.state.get(program)
        if instance is None:
            instance = _new_instance(stream, program, self._programs.profiled)
        if instance.owner is not self._bound:
            instance.owner = None
            for index, address in enumerate(self._input_addresses):
                instance.bind(Place.INPUT, index, address)
            for index, address in enumerate(self._output_addresses):
                instance.bind(Place.OUTPUT, index, address)
            instance.owner = self._bound
        job = instance.whole
        if job is not None:
            self.whole = True
            self._instance = None
            return job
        self.whole = False
        self._instance = instance
        self._began = time.perf_counter_ns()
        return instance.begin(self._inputs, self._outputs)

    def resume(self, stream: Stream) -> Job | None:
        if self._instance is None:
            return None
        job = self._instance.resume()
        if job is None:
            self.control.ended = time.perf_counter_ns()
        if job is None and self._instance.timed:
            self._profile = (self._instance.program, self._instance.times.copy())
        return job

    def _choose_program(self) -> Program:
        program = self._programs.of(tuple(array.shape for array in self.bound_inputs()))
        for index, shape in enumerate(program.output_shapes):
            array = self._outputs[index]
            if array.shape == shape:
                continue
            if self._users[index]:
                raise InvalidArgumentError(
                    f"Output '{printable(self._programs.outputs[index].name)}' has shape {list(shape)} for these "
                    f"inputs; the array that was set for it has {list(array.shape)}."
                )
            self._bind_output(index, aligned_zeros(shape, array.dtype))
        self._program = program
        return program

    @property
    def step_times(self) -> np.ndarray:
        """Nanoseconds of each step of the last inference, which was timed."""
        assert self._profile is not None
        return self._profile[1]

    def profiling(self) -> list[ProfilingInfo]:
        if self._profile is None:
            program = self._program or next(reversed(self._programs.cached()), None)
            times = np.zeros(len(program.planned) if program else 0, np.int64)
            status = ProfilingInfo.NOT_RUN
        else:
            program, times = self._profile
            status = ProfilingInfo.EXECUTED
        rows = []
        for step, nanoseconds in zip(program.planned if program else (), times):
            taken = timedelta(microseconds=int(nanoseconds) / 1000)
            kernel = "onnx.reference" if isinstance(step, FallbackStep) else step.kernel.name
            rows.append(ProfilingInfo(status, taken, taken, step.node.name, step.node.op_type, kernel))
        return rows


def _new_instance(stream: Stream, program: Program, timed: bool) -> Instance:
    arena, instances = stream.state.get(ARENA), stream.state
    if arena is None or arena.size < program.arena_size:
        larger = 0 if arena is None else arena.size * 5 // 4
        arena = instances[ARENA] = allocate(max(program.arena_size, larger, ALIGNMENT))
        for other in instances.values():
            if isinstance(other, Instance):
                other.move_to(arena)
    made = instances[program] = Instance(program, timed, arena)
    if len(instances) > MOST_INSTANCES:
        del instances[next(key for key in instances if key != ARENA)]
    return made
