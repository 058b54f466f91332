"""A stream: a queue of the device, and for each program the memory that its inferences use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from weakref import ref

import numpy as np

from cpuruntime.devices.gpu.program import Program
from cpuruntime.errors import DeviceUnavailableError, printable
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import Copy, GpuRuntime, Memory, Prepared, Queue, Recorded
from cpuruntime.properties.hint import Priority

MOST_PROGRAMS = 8
"""Programs, for different shapes, of which a stream keeps the memory; arbitrary."""

LEVELS = {Priority.LOW: 0, Priority.MEDIUM: 1, Priority.HIGH: 2}
_SPINS = {Priority.LOW: 0, Priority.MEDIUM: 20_000, Priority.HIGH: 1_000_000}
"""Nanoseconds for which a thread looks for the end of an inference before it sleeps, by GPU_QUEUE_THROTTLE."""


@dataclass(frozen=True)
class Bound:
    """What an inference reads or writes at a port: an array of the host, or memory of the device.

    `memory` is that of the array where kernels use it in place, or the device's own; None where it is copied.
    """

    array: np.ndarray | None
    memory: Memory | None = None


@dataclass
class _Ready:
    """A program on a queue: its launches, memory of its own for ports that are copied, and what was bound last."""

    recorded: Recorded
    own: dict[int, Memory] = field(default_factory=dict)
    bound: tuple[ref[Bound], ...] = ()
    prepared: Prepared | None = None


class Stream:
    """Runs one inference at a time, on the thread that calls `run`.

    `entered` is when, on the clock of time.monotonic, that thread went into calls of the driver from which it is not
    back; else 0.
    """

    _queue: Queue | None = None

    def __init__(self, runtime: GpuRuntime, priority: Priority, throttle: Priority, timing: bool) -> None:
        self.runtime = runtime
        self._arguments = priority, throttle, timing
        self.entered = 0.0
        self._ready: OrderedDict[Program, _Ready] = OrderedDict()

    def successor(self) -> Stream:
        """A new stream like it."""
        return Stream(self.runtime, *self._arguments)

    def _renew(self) -> None:
        """Begin with an empty queue: at first, and after an error, which an old one may repeat."""
        priority, throttle, timing = self._arguments
        self._queue = self.runtime.queue(LEVELS[priority], LEVELS[throttle], timing)
        self._end = End(_SPINS[throttle])
        self._ready = OrderedDict()

    def run(self, program: Program, ports: Sequence[Bound]) -> list[int]:
        """Run an inference; `ports` are the inputs, then the outputs. Returns the times of launches, if it takes them.

        Whatever it raises, the device no longer uses the ports' memory, unless its driver hangs.

        Raises:
            OutOfMemoryError: the device has not the memory.
            DeviceUnavailableError: the device is lost, ended with an error, or hangs.
        """
        self.entered = monotonic()
        try:
            ready = self._submit(program, ports)
        finally:
            self.entered = 0.0
        self._await(program, ports)
        if self._end.status:
            status = self._end.status
            self._renew()
            raise DeviceUnavailableError(
                f"{self.runtime.facts.name} ended an inference of model '{printable(program.name)}' with error "
                f"{status} of its driver."
            )
        return ready.recorded.times

    def _submit(self, program: Program, ports: Sequence[Bound]) -> _Ready:
        if self._queue is None:
            self._renew()
        ready = self._of(program)
        if len(ready.bound) != len(ports) or any(old() is not new for old, new in zip(ready.bound, ports)):
            self._prepare(program, ready, ports)
        assert self._queue is not None
        assert ready.prepared is not None
        try:
            self._queue.submit(ready.prepared, self._end)
        except BaseException:
            self.entered = 0.0
            self._await(program, ports)
            self._renew()
            raise
        return ready

    def _prepare(self, program: Program, ready: _Ready, ports: Sequence[Bound]) -> None:
        """Bind the memory of ports: for all inferences that use the same."""
        inputs = len(program.inputs)
        memories, lent, writes, reads = [], [], [], []
        for index, (port, bound) in enumerate(zip([*program.inputs, *program.outputs], ports)):
            memory = bound.memory
            if memory is None:
                assert bound.array is not None
                memory = ready.own.get(index)
                if memory is None:
                    memory = ready.own[index] = self.runtime.allocate(port.nbytes)
                copies = writes if index < inputs else reads
                copies += [Copy(memory, bound.array.ctypes.data)] * (bound.array.nbytes > 0)
            elif memory.array is not None:
                lent.append(memory)
            memories.append(memory)
        assert self._queue is not None
        ready.bound = ()
        ready.prepared = self._queue.prepare(ready.recorded, memories, lent, writes, reads)
        ready.bound = tuple(map(ref, ports))

    def _await(self, program: Program, ports: Sequence[Bound]) -> None:
        """Wait for the end. A queue that does not come to an end is given up."""
        name = printable(program.name)
        try:
            held = self._queue, self._ready, program, ports
            self._end.wait_long(held, f"{self.runtime.facts.name} did not end an inference of model '{name}'")
        except BaseException:
            if self._end.is_pending:
                self._queue = None
            raise

    def _of(self, program: Program) -> _Ready:
        found = self._ready.get(program)
        if found is None:
            while len(self._ready) >= MOST_PROGRAMS:
                self._ready.popitem(last=False)
            assert self._queue is not None
            found = self._ready[program] = _Ready(program.record(self._queue))
        self._ready.move_to_end(program)
        return found

    def release_memory(self) -> None:
        """Free the memory of all programs; the next inference allocates again."""
        self._ready.clear()
