"""The program: a flat table of (kernel address, argument block address), and its instances that own memory.

A `Program` is immutable and shared by the streams of a compiled model. An `Instance` is one stream's copy: an arena,
argument blocks that point into it, and the request's inputs and outputs bound just before a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Value
from cpuruntime.host.memory import ALIGNMENT, allocate
from cpuruntime.passes import evaluate
from cpuruntime.program.plan.arena import plan_arena
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place, Plain, Storage
from cpuruntime.streams.job import Job
from cpuruntime.streams.native import runner

# What one thread achieves at least in small steps, and what a step is worth sharing from; measured, roughly.
FLOPS_PER_NANOSECOND, BYTES_PER_NANOSECOND, SMALL_NANOSECONDS = 50, 16, 2000


@dataclass(frozen=True)
class Segment:
    """Steps `first` to `first + count - 1` run natively; or one node that the reference evaluator runs."""

    first: int
    count: int
    fallback: FallbackStep | None = None


class Program:
    """A planned graph: steps, their argument blocks as a template, and the size of the arena.

    Args:
        planner: one that has planned its graph.
        compiling: called before each kernel whose code is needed, with (how many are done, how many there are).
        repeats: how often the steps are done in one inference, each time for the rows of inputs and outputs that follow
            in memory; with fallback steps once only. A row is all that the graph takes and makes.
    """

    def __init__(
        self,
        planner: Planner,
        compiling: Callable[[int, int], None] = lambda done, total: None,
        repeats: int = 1,
    ) -> None:
        self.planned: Sequence[Step | FallbackStep] = planner.steps
        self.steps = [s for s in planner.steps if isinstance(s, Step)]
        self.repeats = repeats
        ports = planner.graph.inputs, planner.graph.outputs
        self.input_shapes, self.output_shapes = (tuple(_repeated(v, repeats) for v in values) for values in ports)
        self._rows = dict(zip((Place.INPUT, Place.OUTPUT), ([_nbytes(v) for v in values] for values in ports)))
        self.segments = _segments(planner.steps) if repeats == 1 else [Segment(0, repeats * len(self.steps))]
        self.faults = planner.faults
        storages = _live_storages(planner.steps)
        self.arena_size = plan_arena(storages)
        self.unshared_size = sum(s.size for s in storages)
        kernels = list(dict.fromkeys(k for step in self.steps for k in step.kernels))
        for done, item in enumerate(kernels):
            compiling(done, len(kernels))
            _ = item.address
        self._lay_out_arguments()

    def _lay_out_arguments(self) -> None:
        """Writes the argument blocks and notes every word that holds an address to be filled in."""
        blocks: list[tuple[Step, int, int]] = []
        offsets: list[int] = []
        size = 0
        for row in range(self.repeats):
            for index, step in enumerate(self.steps):
                if row and not _has_rows(step):
                    offsets.append(offsets[index])
                    continue
                blocks.append((step, size, row))
                offsets.append(size)
                size += -(-step.kernel.arguments.itemsize // ALIGNMENT) * ALIGNMENT
        template = np.zeros(size, np.uint8)
        arena: list[tuple[int, int]] = []
        self.bindings: dict[tuple[Place, int], list[tuple[int, int]]] = {}
        for step, offset, row in blocks:
            dtype = step.kernel.arguments
            block = template[offset : offset + dtype.itemsize].view(dtype)
            for name, argument in step.arguments.items():
                if isinstance(argument, Kernel):
                    block[name] = argument.address
                    continue
                if not isinstance(argument, Address):
                    block[name] = argument
                    continue
                word = (offset + dtype.fields[name][1]) // 8
                storage, place = argument.storage, argument.storage.place
                if place is Place.FIXED:
                    block[name] = storage.address + argument.offset
                elif place is Place.ARENA:
                    arena.append((word, storage.offset + argument.offset))
                else:
                    first = row * self._rows[place][storage.index] if place in self._rows else 0
                    self.bindings.setdefault((place, storage.index), []).append((word, first + argument.offset))
        self.template = template.view(np.int64)
        self.arena_words = np.array([w for w, _ in arena], np.int64)
        self.arena_offsets = np.array([o for _, o in arena], np.int64)
        self.block_offsets = np.array(offsets, np.int64)
        self.addresses = np.tile(np.array([s.kernel.address for s in self.steps], np.int64), self.repeats)
        self.alone = np.tile(np.array([runner.ALONE * is_small(s) for s in self.steps], np.int64), self.repeats)

    def instantiate(self) -> Instance:
        """A copy with memory of its own."""
        return Instance(self)


def _repeated(value: Value, repeats: int) -> tuple[int, ...]:
    shape = value.static_shape
    return shape if repeats == 1 else (repeats * shape[0], *shape[1:])


def _nbytes(value: Value) -> int:
    return prod(value.static_shape) * value.element_type.size


def _has_rows(step: Step) -> bool:
    """Whether a step reads inputs or writes outputs, which are elsewhere for each row."""
    places = (a.storage.place for a in step.arguments.values() if isinstance(a, Address))
    return any(place in (Place.INPUT, Place.OUTPUT) for place in places)


def is_small(step: Step) -> bool:
    """Whether a step takes about as long as threads need to meet, so that one runs it alone.

    An estimate from above of what it takes on one thread: the step may read and write less than its node does.
    """
    values = [value for value in (*step.node.inputs, *step.node.outputs) if value is not None]
    if not all(value.is_static for value in values):
        return False
    moved = sum(prod(value.static_shape) * value.element_type.size for value in values)
    return step.flops / FLOPS_PER_NANOSECOND + moved / BYTES_PER_NANOSECOND < SMALL_NANOSECONDS


def _segments(planned: Sequence[Step | FallbackStep]) -> list[Segment]:
    segments: list[Segment] = []
    first = count = 0
    for step in planned:
        if isinstance(step, Step):
            count += 1
            continue
        if count:
            segments.append(Segment(first, count))
        segments.append(Segment(first + count, 0, step))
        first, count = first + count, 0
    return segments + ([Segment(first, count)] if count else [])


def _live_storages(planned: Sequence[Step | FallbackStep]) -> list[Storage]:
    """The arena's storages with their first and last step set."""
    found: dict[Storage, None] = {}
    for index, step in enumerate(planned):
        if isinstance(step, Step):
            addresses = [a for a in step.arguments.values() if isinstance(a, Address)]
        else:
            addresses = [view.address for view in (*step.inputs, *step.outputs) if view is not None]
        for address in addresses:
            storage = address.storage
            if storage.place is Place.ARENA:
                found[storage] = None
                storage.first_step = index if storage.first_step < 0 else storage.first_step
                storage.last_step = index
    return list(found)


class Instance:
    """One stream's memory for a program; used by one request at a time.

    With `timed`, `times` holds the nanoseconds of each planned step of the last run. `whole` is the job that is all
    there is to an inference, with nothing to look at after it, or None: it may be run without `begin` and `resume`.
    `owner` is the caller's: whose memory is bound.
    """

    def __init__(self, program: Program, timed: bool = False) -> None:
        self.program = program
        self.timed = timed
        self.times = np.zeros(len(program.planned), np.int64)
        self.arena = allocate(max(program.arena_size, ALIGNMENT))
        raw = np.zeros(program.template.size + ALIGNMENT // 8, np.int64)
        start = -raw.ctypes.data % ALIGNMENT // 8
        self.arguments = raw[start : start + program.template.size]
        self.arguments[:] = program.template
        self.arguments[program.arena_words] = self.arena.ctypes.data + program.arena_offsets
        table = np.empty((len(program.addresses), 2), np.int64)
        table[:, 0] = program.addresses
        table[:, 1] = self.arguments.ctypes.data + program.block_offsets + program.alone
        self._parts: list[Job | FallbackStep] = []
        for segment in program.segments:
            part = segment.fallback or Job(table[segment.first : segment.first + segment.count])
            if timed and isinstance(part, Job):
                part.time_steps()
            self._parts.append(part)
        self._bound: dict[tuple[Place, int], int] = {}
        self._inputs: Sequence[np.ndarray] = ()
        self._outputs: Sequence[np.ndarray] = ()
        self._position = self._planned = 0
        self._faults = np.zeros(len(program.faults), np.int64)
        for index in range(len(program.faults)):
            self.bind(Place.FAULT, index, self._faults[index:].ctypes.data)
        self.owner: object = None
        only = self._parts[0] if len(self._parts) == 1 and not timed and not program.faults else None
        self.whole = only if isinstance(only, Job) else None

    def bind(self, place: Place, index: int, address: int) -> None:
        """Points every argument that names input or output `index` at `address`."""
        key = (place, index)
        if self._bound.get(key) != address:
            self._bound[key] = 0  # until all is done: an interrupt may come in between
            for word, offset in self.program.bindings.get(key, ()):
                self.arguments[word] = address + offset
            self._bound[key] = address

    def begin(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Job | None:
        """Starts an inference on the bound memory, `inputs` and `outputs`: the native job to run first.

        None when there is nothing to run natively; fallbacks up to the job have then been run.
        """
        self._inputs, self._outputs = inputs, outputs
        self._position = self._planned = 0
        if self.program.faults:
            self._faults.fill(0)
        return self._next_job()

    def resume(self) -> Job | None:
        """To be called when the job given last has run: the next one, None when the inference is finished.

        Raises InvalidArgumentError when the data broke a rule that only kernels could check.
        """
        if self._position == len(self._parts):
            return None
        job = self._parts[self._position]
        assert isinstance(job, Job)
        if self.timed:
            times = job.step_times.reshape(self.program.repeats, -1).sum(axis=0)
            self.times[self._planned : self._planned + len(times)] = times
        self._planned += job.steps
        self._position += 1
        return self._next_job()

    def _next_job(self) -> Job | None:
        """Runs the fallbacks before the next job."""
        while self._position < len(self._parts):
            part = self._parts[self._position]
            if isinstance(part, Job):
                return part
            begin = time.perf_counter_ns()
            self._fall_back(part)
            self.times[self._planned] = time.perf_counter_ns() - begin
            self._planned += 1
            self._position += 1
        if self.program.faults and self._faults.any():
            raise InvalidArgumentError(self.program.faults[int(self._faults.argmax())])
        return None

    def _fall_back(self, step: FallbackStep) -> None:
        views = [None if view is None else self._array(view) for view in step.inputs]
        results = evaluate(step.node, views)
        for view, result in zip(step.outputs, results):
            if view is not None:
                self._array(view)[...] = result

    def _array(self, view: Plain) -> np.ndarray:
        storage, offset = view.address.storage, view.address.offset
        if storage.place is Place.ARENA:
            memory, offset = self.arena, offset + storage.offset
        elif storage.place is Place.FIXED:
            memory = storage.owner
        else:
            bound = self._inputs if storage.place is Place.INPUT else self._outputs
            memory = bound[storage.index].reshape(-1).view(np.uint8)
        return memory[offset : offset + view.nbytes].view(view.dtype).reshape(view.shape)
