"""The program: a flat table of (kernel, argument block), and its instances that own memory.

A `Program` is immutable and shared by the streams of a compiled model. An `Instance` is one stream's copy: an arena,
argument blocks that point into it, and the request's inputs and outputs, bound just before a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cpuruntime.errors import InternalError, InvalidArgumentError, printable
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.program.image import Linkable
from cpuruntime.program.link import Linked
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Place, Plain
from cpuruntime.records import record
from cpuruntime.streams.job import Job

if TYPE_CHECKING:
    from cpuruntime.program.frame import Filled


@record
class Segment:
    """Steps `first` to `first + count - 1` run natively; or one node that the reference evaluator runs."""

    first: int
    count: int
    fallback: FallbackStep | None = None


class Program:
    """A planned graph: its steps, and their argument blocks and constants as an image.

    Args:
        planned: the steps in their order; of a program that was stored, the facts about them.
        segments: what of them runs natively, and what does not.
        image: all native steps.
        repeats: runs of all steps in one inference (1 with fallback steps), each on the next row of inputs and outputs
            in memory: a tensor of the graph's own shape.
        unshared_size: bytes of all values of the arena together.
        show: makes the numbers in `planned` those of this program, where several programs share them.
        key: the same for programs that differ in sizes alone, so that one instance can be all of them in turn; by
            default the program's own.

    Attributes:
        is_retired: whether another program computes the same from now on, faster.
        has_run: whether a request has noted that it ran.
    """

    def __init__(
        self, planned: Sequence[Any], segments: Sequence[Segment], image: Linkable, repeats: int,
        unshared_size: int, show: Callable[[], None] = lambda: None, key: Hashable = None,
    ) -> None:  # fmt: skip
        self.planned = planned
        self.segments = segments
        self.image = image
        self.repeats = repeats
        self.unshared_size = unshared_size
        self.show = show
        self.is_retired = self.has_run = False
        self._key = key

    @property
    def key(self) -> Hashable:
        """The key of its instances."""
        return self if self._key is None else self._key

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Those of the graph's inputs, for all repeats together."""
        return tuple(shape for shape, _ in self.image.inputs)

    @property
    def output_shapes(self) -> Sequence[tuple[int, ...]]:
        """Those of the graph's outputs."""
        return self.image.output_shapes

    @property
    def steps(self) -> list[Step]:
        """Those that run natively."""
        return [step for step in self.planned if isinstance(step, Step)]

    def labels(self) -> list[tuple[str, str, str]]:
        """Of each step the node's name and operator, and what runs it."""
        return [
            (step.node.name, step.node.op_type, step.kernel.name) if isinstance(step, Step)
            else (step.node.name, step.node.op_type, "numpy") if isinstance(step, FallbackStep)
            else (step.name, step.op_type, step.kernel)
            for step in self.planned
        ]  # fmt: skip

    @property
    def arena_size(self) -> int:
        """Bytes of an instance's arena."""
        return self.image.arena_size

    @property
    def nbytes(self) -> int:
        """Bytes that the program takes, without weights and arenas."""
        return self.image.nbytes


class StepTimes:
    """Nanoseconds of each planned step of an inference, from what was noted: for each part a job's clocks or a number.

    An inference takes a note only; the arithmetic is done when somebody looks.
    """

    __slots__ = ("_count", "_noted", "_repeats", "_threads")

    def __init__(self, noted: Sequence[np.ndarray | int], repeats: int, count: int, threads: int = 0) -> None:
        self._noted, self._repeats, self._count, self._threads = noted, repeats, count, threads

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self.array.tolist())

    @property
    def array(self) -> np.ndarray:
        """int64[len]."""
        parts = [
            np.atleast_1d(one) if isinstance(one, int) else self._sums(np.diff(one[: self._steps(one) + 1]))
            for one in self._noted
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def shares(self) -> list[list[int]]:
        """Of each step the nanoseconds of each thread's share; none where the first thread ran the step alone."""
        found: list[list[int]] = []
        for one in self._noted:
            if isinstance(one, int):
                found.append([])
                continue
            steps = self._steps(one)
            began, ended, done = one[:steps], one[1 : steps + 1], one[steps + 1 :].reshape(self._threads, steps)
            is_shared = ((one[0] <= done) & (done <= ended)).all(axis=0)  # others have the clocks of an earlier run
            # A thread may have begun before the first one went on and looked at the clock.
            taken = np.where(is_shared, np.maximum(done - began, 0), 0)
            sums = taken.reshape(self._threads, self._repeats, steps // self._repeats).sum(axis=1)
            found += [row if any(row) else [] for row in sums.T.tolist()]
        return found

    def _steps(self, clocks: np.ndarray) -> int:
        return (len(clocks) - 1) // (1 + self._threads)

    def _sums(self, times: np.ndarray) -> np.ndarray:
        return times.reshape(self._repeats, -1).sum(axis=0)


class Instance(Linked):
    """One stream's memory for a program; used by one request at a time.

    Where it is `timed`, of so many threads, `times` are those of the last run. `whole` is the only job of an
    inference without faults, which may be run without `begin` and `resume`, or None; `only` is that job whether or not
    there may be faults. The caller sets `owner`, to know whose memory is bound, and `iterations`: a program, and what
    runs iterations of it here.
    """

    def __init__(self, program: Program, timed: int = 0, arena: np.ndarray | None = None) -> None:
        super().__init__(program.image, arena)
        self.program: Program | None = program
        self.key, self._repeats = program.key, program.repeats
        self.timed = timed
        self._raised = self.faults.data
        self.times = StepTimes((), self._repeats, 0, timed)
        self._noted: list[np.ndarray | int] = []
        self._parts: list[Job | FallbackStep] = []
        for segment in program.segments:
            part = segment.fallback or Job(self.table[segment.first : segment.first + segment.count])
            if timed and isinstance(part, Job):
                part.time_steps(timed)
            self._parts.append(part)
        self._inputs: Sequence[np.ndarray] = ()
        self._outputs: Sequence[np.ndarray] = ()
        self._position = 0
        self.owner: object = None
        self.iterations: tuple[Program | None, Any] = None, None
        self._own: dict[int, np.ndarray] = {}
        only = self._parts[0] if len(self._parts) == 1 and not timed else None
        self.only = only if isinstance(only, Job) else None
        self.whole = None if self.image.faults else self.only

    @property
    def nbytes(self) -> int:
        """Bytes of memory, but for those of the steps' own objects."""
        return self.arena.nbytes + self.words.nbytes + sum(array.nbytes for array in self._own.values())

    def serve(self, program: Program, ports: memoryview, owner: object) -> None:
        """Makes it the program's, with the addresses of `owner` bound; see `bind_all`."""
        self.owner = None
        if self.program is program:
            self.bind_all(ports)
        else:
            self.load(program, ports)
        self.owner = owner

    def load(self, program: Program, ports: memoryview | None = None) -> None:
        """Turns it into an instance of another program of the same key; what is bound stays so, or is bound anew."""
        if program.key is program or program.key != self.key or program.arena_size > self.arena.size:
            raise InternalError("An instance can only become a program of the same key that its arena has room for.")
        image = cast("Filled", program.image)
        owner, self.program, self.owner = self.owner, None, None  # until all is done: an interrupt may come in between
        self.fill(image, ports)
        self._own.clear()
        shared, nanoseconds = image.shared(self._view), image.nanoseconds
        for part in self._parts:
            assert isinstance(part, Job)
            part.change(shared, nanoseconds)
        self.program, self.owner = program, owner

    def results(self, targets: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """An array for each output: that of `targets` where it fits, else one of the instance's own."""
        return [self._result(index, target) for index, target in enumerate(targets)]

    def _result(self, index: int, target: np.ndarray | None) -> np.ndarray:
        shape, dtype = self.image.outputs[index]
        if target is not None and target.shape == shape and target.dtype == dtype and target.flags.c_contiguous:
            return target
        if index not in self._own:
            self._own[index] = aligned_zeros(shape, dtype)
        return self._own[index]

    def begin(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Job | None:
        """Starts an inference on the bound memory, `inputs` and `outputs`: the native job to run first.

        None when there is nothing to run natively; fallbacks up to the job have then been run.
        """
        self._inputs, self._outputs = inputs, outputs
        self._position = 0
        self._noted = []
        if any(self._raised):
            self.faults.fill(0)
        return self._next_job()

    def resume(self) -> Job | None:
        """Called when a job has run: the next one, None when the inference is completed.

        Raises InvalidArgumentError when the data broke a rule that only kernels could check.
        """
        if self._position == len(self._parts):
            return None
        job = self._parts[self._position]
        assert isinstance(job, Job)
        if self.timed:
            self._noted.append(job.clock())
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
            self._noted.append(time.perf_counter_ns() - begin)
            self._position += 1
        if self.timed:
            planned = cast("Program", self.program).planned
            self.times = StepTimes(self._noted, self._repeats, len(planned), self.timed)
        self.check_faults()
        return None

    def check_faults(self) -> None:
        """InvalidArgumentError when the data broke a rule that only kernels could check."""
        if any(self._raised):
            raise InvalidArgumentError(self.image.faults[int(self.faults.argmax())])

    def _fall_back(self, step: FallbackStep) -> None:
        from cpuruntime.passes import evaluate  # not above: programs that were stored do without

        views = [None if view is None else self._operand(view) for view in step.inputs]
        for value, view, result in zip(step.node.outputs, step.outputs, evaluate(step.node, views)):
            if view is None:
                continue
            if (result.dtype, result.shape) != (view.dtype, view.shape):
                raise InternalError(
                    f"{step.node.where}: its output '{printable(value.name)}' was planned as {view.dtype}"
                    f"{list(view.shape)} and is {result.dtype}{list(result.shape)}."
                )
            self._array(view)[...] = result

    def _operand(self, view: Plain) -> np.ndarray:
        """The array of a view, copied from memory that users may write to: NumPy reads indices again after a check."""
        array = self._array(view)
        return array.copy() if view.address.storage.place in (Place.INPUT, Place.OUTPUT) else array

    def _array(self, view: Plain) -> np.ndarray:
        storage, offset = view.address.storage, view.address.offset
        if storage.place is Place.ARENA:
            memory, offset = self.arena, offset + storage.offset
        elif storage.place is Place.FIXED:
            memory = storage.owner
            assert memory is not None
        else:
            bound = self._inputs if storage.place is Place.INPUT else self._outputs
            memory = bound[storage.index].reshape(-1).view(np.uint8)
        return memory[offset : offset + view.nbytes].view(view.dtype).reshape(view.shape)
