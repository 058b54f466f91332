"""One inference at a time on the CPU: bound memory, and the run of a program by a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from operator import is_not
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cpuruntime.devices.cpu.output_memory import OutputMemories
from cpuruntime.devices.cpu.timeline import labels_of, stream_name
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays
from cpuruntime.errors import InternalError, InvalidArgumentError, printable
from cpuruntime.graph import Kind, Node
from cpuruntime.host.memory import address_of, allocate
from cpuruntime.program.instances import instance_for
from cpuruntime.program.program import Instance, Program
from cpuruntime.streams import priorities
from cpuruntime.streams.base import Executor
from cpuruntime.streams.call import Call, Varying
from cpuruntime.streams.handover import rebind
from cpuruntime.streams.job import Job
from cpuruntime.streams.seen import Seen, SeenShapes
from cpuruntime.streams.task import Signal, Stream, Task
from cpuruntime.streams.thread_group import QUICK
from cpuruntime.trace.events import Steps, Times

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.programs import Programs
    from cpuruntime.devices.cpu.stored import Stored
    from cpuruntime.program.stages.run import Run
    from cpuruntime.program.stages.stage import Stage

LEVELS = {"LOW": priorities.LOW, "MEDIUM": priorities.MEDIUM, "HIGH": priorities.HIGH}
"""The numbers of priorities in streams."""


LARGEST_OWN = 2**20
"""Bytes of the arena that a request may have of its own; what a short job works on is less. Arbitrary."""


class CpuRequest(Task, BoundArrays, DeviceRequest):
    """The arrays of one inference at a time, and what a stream executes for it."""

    def __init__(self, programs: Programs | Stored, executor: Executor) -> None:
        super().__init__()
        self._programs = cast("Programs", programs)
        self._executor = executor
        # Of inputs and outputs in turns, as instances of programs take them.
        self._addresses = np.zeros(2 * max(len(programs.inputs), len(programs.outputs)), np.int64).data
        self._input_addresses, self._output_addresses = self._addresses[::2], self._addresses[1::2]
        self._users = [False] * len(programs.outputs)
        self._has_objects = any(port.kind is not Kind.TENSOR for port in programs.inputs)
        self._dynamic = [index for index, port in enumerate(programs.outputs) if port.partial_shape.is_dynamic]
        # Outputs that are given another array in each inference.
        self._renewed = {index for index in self._dynamic if programs.outputs[index].dtype.hasobject}
        self._memories = OutputMemories([port.dtype for port in programs.outputs])
        self._bound = object()  # another one for other addresses
        self._short: Instance | None = None
        self._key: object = None  # of the latest program
        # Of a model of dynamic shapes: what its latest inference ran, if that may run again.
        self._latest: tuple[Program, Job] | None = None
        self._current: Seen | None = None
        self._seen = SeenShapes()
        self._seen_by: Call | None = None  # for which there is a function that finds them
        self._arena: np.ndarray | None = None
        self._program: Program | None = None
        self._stage: Stage | None = None
        self._resume: Callable[[], Job | None] = _nothing
        # Of an inference whose steps are timed: they, what ran them, and when the first one began.
        self._profile: Sequence[tuple[Program | Node, Times]] = ()
        self._ran_by: Stream | None = None
        self._first = 0
        self._terms = TERMS
        # When an inference of several parts began.
        self._began = 0
        self.bind_own(programs.inputs, programs.outputs)
        for index in self._dynamic:
            self._outputs[index], _ = self._memories.take(index, self._outputs[index].shape, ())
        for index, array in enumerate(self._outputs):
            self._output_addresses[index] = address_of(array)
        self.memory = (self._inputs, self._outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._leave()
        address, bound = address_of(array), object()
        old = self._inputs[index]
        # Plain statements from here on: see streams/handover.py, `rebind`.
        if self._dynamic or old is None or old.shape != array.shape:
            self._program = None
            self.repeat[0] = 0
        is_new = self._input_addresses[index] != address
        if is_new:
            self.repeat[0] = 0
        self._inputs[index] = array
        self._input_addresses[index] = address
        if is_new:
            self._bound = bound

    def _leave(self) -> None:
        """Before other memory is bound: what is noted of the latest inference is not for that."""
        self._latest = None
        if self._current is None:
            return
        bound = object()
        self._program = None  # plain statements from here on
        self.repeat[0] = 0
        self._bound = bound
        self._current = None

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._leave()
        rebind(self, self._outputs, self._output_addresses, index, array, address_of(array), object())
        self._users[index] = True
        if self._dynamic:
            self._program = None
        self.repeat[0] = 0

    def run(self) -> None:
        """Run one inference by an idle stream and this thread, or wait for a stream."""
        if self._terms is not TERMS:
            self._accept(TERMS)
        if self._program is not None and self._program.is_retired:
            self.repeat[0] = 0
        if self._short is not None and not self.repeat[0]:
            self._bind_short(self._short)
        self._executor.run(self)

    def infer_again(self, call: Call) -> Callable[..., Any] | None:
        if not call.is_static:
            return self._infer_seen(call)
        program = None if self._programs.is_open else self._program  # that may be retired is looked at each time
        return None if program is None or program.is_retired else self._executor.infer_again(self, call)

    def _infer_seen(self, call: Call) -> Callable[..., Any] | None:
        """`infer_again` for the shapes that were seen twice, these among them if the latest inference was whole."""
        latest = self._latest
        if latest is None or self._current is not None:  # of shapes before these
            return None
        program, job = latest
        if not program.has_run:
            program.has_run = True
            self._latest = None
            return None
        if self._renewed or not call.is_own or any(map(is_not, call.bound, self._inputs)):
            return None
        self._latest = None
        own = None
        if program.arena_size <= LARGEST_OWN:
            with suppress(MemoryError):
                own = self._own_instance(program, job)
        inputs = cast("list[np.ndarray]", self._inputs)
        if own is None:
            seen = Seen(inputs, self._outputs, self._addresses, None, program, program.nbytes)
        else:
            seen = Seen(inputs, self._outputs, self._addresses, own.whole, own, own.words.nbytes)
        self._seen.add(seen)
        self.memory = (self._inputs, self._outputs, self._seen)
        self._current = seen
        if self._seen_by is call:
            return None
        self._seen_by = call
        varying = Varying(self, self._seen.table, self._inputs, self._outputs, np.asarray(self._addresses))
        return self._executor.infer_again(self, call, varying)

    def _own_instance(self, program: Program, job: Job) -> Instance:
        """An instance for the memory there is, in an arena of the request's; `job` does the same in a stream's."""
        if self._arena is None:
            self._arena = allocate(LARGEST_OWN)
        own = Instance(program, arena=self._arena)
        own.serve(program, self._addresses, object())
        assert own.whole is not None
        own.whole.change(job.shared, job.elapsed)
        own.whole.listen_to(self.control)
        return own

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool:
        if self._terms is not terms:
            self._accept(terms)
        if self._program is not None and self._program.is_retired:
            self.repeat[0] = 0
        if self._short is not None and not self.repeat[0]:
            self._bind_short(self._short)
        self.placed = False
        return self._executor.submit(self, function)

    def _bind_short(self, own: Instance) -> None:
        """Bind other memory to the request's own instance, so that it runs without a stream being lent."""
        program = self._program
        if program is None or program.is_retired or own.program is not program or not self.whole:
            return
        if own.owner is not self._bound:
            own.serve(program, self._addresses, self._bound)
        assert own.whole is not None
        self.repeat[0] = own.whole.address

    def _accept(self, terms: Terms) -> None:
        self._terms = terms
        self.agree(LEVELS[terms.priority], terms.deadline)

    def notify(self, function: Callable[[], None]) -> None:
        self._executor.notify(self, function)

    def moments(self) -> tuple[int, int, int]:
        return self.taken, self._began or self.control.began, self.control.ended

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
        current = self._current
        if current is not None:
            return self._begin_seen(stream, current)
        self._latest = None
        program = self._program
        if program is None or program.is_retired:
            program = self._choose_program()
        if program is None:
            self.whole = False
            self._resume = partial(next, self._stages(stream), None)
            self._ran_by = stream
            self._first = 0
            self._began = time.perf_counter_ns()
            return None
        instance = self._instance_for(stream, program)
        if instance.owner is not self._bound or instance.program is not program:
            instance.serve(program, self._addresses, self._bound)
        job = instance.whole
        if job is not None:
            self.whole = True
            self._resume, self._began = _nothing, 0
            if self._dynamic:
                self._latest = program, job
            if instance is self._short and self._program is not None:
                self.repeat[0] = job.address
            return job
        self.whole = False
        self._ran_by = stream
        self._first = 0
        self._resume = partial(self._ended, instance) if instance.timed else instance.resume
        self._began = 0 if instance.only else time.perf_counter_ns()
        return instance.begin(self._inputs, self._outputs)

    def _begin_seen(self, stream: Stream, current: Seen) -> Job:
        """The job for shapes that were seen: their own, or that of the stream's own instance of their program."""
        self.whole = True
        self._resume, self._began = _nothing, 0
        job = current.job
        if job is not None:
            self.repeat[0] = job.address
            return job
        program = cast("Program", current.owner)
        instance = instance_for(stream.state, program, key=program)
        if instance.owner is not current:
            instance.serve(program, self._addresses, current)
        return cast("Job", instance.whole)

    def _instance_for(self, stream: Stream, program: Program) -> Instance:
        """The request's own instance of a program that takes less than QUICK and ran before; else the stream's.

        With dynamic shapes always the stream's.
        """
        own, key = self._short, self._key
        if own is not None and own.key == program.key and program.arena_size <= own.arena.size:
            return own
        self._key = program.key
        instance = instance_for(stream.state, program, self._programs.profiled and stream.threads)
        job = instance.whole
        is_short = job is not None and 0 < job.elapsed < QUICK and program.arena_size <= LARGEST_OWN
        if not is_short or key != program.key or self._dynamic:
            return instance
        assert job is not None
        own = Instance(program)
        assert own.whole is not None
        own.whole.change(job.shared, job.elapsed)
        self.memory, self._short = (self._inputs, self._outputs, own), own
        return own

    def resume(self, stream: Stream) -> Job | None:
        job = self._resume()
        if job is None:
            self._resume = _nothing
            if self._began:
                self.control.ended = time.perf_counter_ns()
        return job

    def _ended(self, instance: Instance) -> Job | None:
        """The next job of an inference whose steps are timed; their times are noted at its end."""
        self._first = self._first or self.control.began
        job = instance.resume()
        if job is None:
            self._profile = [(cast("Program", instance.program), instance.times)]
        return job

    def _stages(self, stream: Stream) -> Generator[Job, None, None]:
        """An inference of several stages."""
        assert self._stage is not None
        inputs = self._values()
        run = self._new_run(stream, inputs)
        lent, ports = self._lent(), self._programs.outputs
        targets = [None if a in lent else array for a, array in zip(self._output_addresses, self._outputs)]
        results = yield from run.run(self._stage, inputs, targets)
        held = [r if port.kind is Kind.TENSOR else _held(r, port.kind) for port, r in zip(ports, results)]
        for port, array, result in zip(ports, self._outputs, held):
            if result.dtype != array.dtype:
                name = port.element_type.get_type_name()
                raise InternalError(f"Output '{printable(port.name)}' was computed as {result.dtype}, and is {name}.")
        self._fit_outputs([result.shape for result in held], lent)
        for array, result in zip(self._outputs, held):
            if result is not array:
                array[...] = result
        self._note(run, inputs)

    def _new_run(self, stream: Stream, inputs: list[Any]) -> Run:
        from cpuruntime.program.stages.run import Run  # not above: models that were stored do without

        timed = self._programs.profiled and stream.threads
        return Run(self._programs.stages, stream.state, self.control, inputs, timed)

    def _note(self, run: Run, inputs: list[Any]) -> None:
        """Take note of an inference of several stages that is completed."""
        from cpuruntime.program.stages.stage import example_of

        self._programs.ran = tuple(run.seen)
        self._programs.latest = tuple(map(example_of, inputs))
        self._profile = run.times

    def _values(self) -> list[Any]:
        """The inputs as stages take them."""
        arrays = self.bound_inputs()
        if not self._has_objects:
            return arrays
        return [a if p.kind is Kind.TENSOR else _taken(a, p.kind) for a, p in zip(arrays, self._programs.inputs)]

    def _choose_program(self) -> Program | None:
        """The program that is all there is to run; None when there are several stages."""
        self._stage = self._programs.of(self._values())
        program = self._stage.whole
        if program is not None:
            self._fit_outputs(program.output_shapes, self._lent())
        self._program = None if self._stage.known else program
        return program

    def _fit_outputs(self, shapes: Iterable[tuple[int, ...]], lent: Collection[int]) -> None:
        """Bind arrays of these shapes to outputs that have others, or lie in lent memory; those that users set stay."""
        outputs, addresses, bound = self._outputs, self._output_addresses, object()
        for index, shape in enumerate(shapes):
            if outputs[index].shape == shape and addresses[index] not in lent and index not in self._renewed:
                continue
            if self._users[index]:
                raise InvalidArgumentError(
                    f"Output '{printable(self._programs.outputs[index].name)}' has shape {list(shape)} for these "
                    f"inputs; the array that was set for it has {list(outputs[index].shape)}."
                )
            array, address = self._memories.take(index, shape, lent)
            # Plain statements to the end of the loop, as in `rebind`.
            self.repeat[0] = 0
            outputs[index] = array
            addresses[index] = address
            self._bound = bound

    def _lent(self) -> Collection[int]:
        """Where own memory of outputs of dynamic shape begins in which inputs lie."""
        return self._memories.lent(self._input_addresses, self._inputs) if self._dynamic else ()

    @property
    def step_times(self) -> np.ndarray:
        """Nanoseconds of each step of the last inference, which was timed and had one program."""
        return np.array([*self._profile[0][1]])

    def executed(self) -> tuple[str, int, Steps]:
        stream = "" if self._ran_by is None else stream_name(self._ran_by)
        return stream, self._first, [(labels_of(ran), times) for ran, times in self._profile]

    def profiling(self) -> list[ProfilingInfo]:
        if not self._profile:
            programs = [stage.program for stage in self._programs.shown() if stage.program is not None]
            labels = [label for program in programs for label in program.labels()]
            return [_profiled(label, 0, ProfilingInfo.NOT_RUN) for label in labels]
        rows = []
        for ran, times in self._profile:
            labels = ran.labels() if isinstance(ran, Program) else [(ran.name, ran.op_type, "numpy")]
            rows += [_profiled(label, int(taken), ProfilingInfo.EXECUTED) for label, taken in zip(labels, times)]
        return rows


def _nothing() -> None:
    """There is no next job."""


def _taken(array: np.ndarray, kind: Kind) -> Any:
    """A sequence or optional from the array of objects that is bound to a port."""
    return list(array) if kind is Kind.SEQUENCE else array.item()


def _held(value: Any, kind: Kind) -> np.ndarray:
    """A sequence or optional as an array of objects, with tensors of its own."""
    if isinstance(value, list):
        value = [tensor.copy() for tensor in value]
    elif value is not None:
        value = value.copy()
    array = np.empty(len(value) if kind is Kind.SEQUENCE else (), object)
    for index, tensor in enumerate(value if kind is Kind.SEQUENCE else ()):
        array[index] = tensor
    if kind is not Kind.SEQUENCE:
        array[()] = value
    return array


def _profiled(label: tuple[str, str, str], nanoseconds: int, status: str) -> ProfilingInfo:
    taken = timedelta(microseconds=nanoseconds / 1000)
    return ProfilingInfo(status, taken, taken, *label)
