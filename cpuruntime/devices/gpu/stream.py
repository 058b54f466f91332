"""A stream: a queue of the device, and for each program the memory that its inferences use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from cpuruntime.devices.gpu.program import Program
from cpuruntime.errors import DeviceUnavailableError, printable
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import Copy, GpuRuntime, Memory, Recorded
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


class Stream:
    """Runs one inference at a time, on the thread that calls `run`."""

    def __init__(self, runtime: GpuRuntime, priority: Priority, throttle: Priority, timing: bool) -> None:
        self._runtime = runtime
        self._arguments = LEVELS[priority], LEVELS[throttle], timing
        self._spin = _SPINS[throttle]
        self._renew()

    def _renew(self) -> None:
        """Begin with an empty queue: also after an error, which an old one may repeat."""
        self._queue = self._runtime.queue(*self._arguments)
        self._end = End(self._spin)
        self._recorded: OrderedDict[Program, tuple[Recorded, dict[int, Memory]]] = OrderedDict()
        self._held: tuple[object, ...] = ()

    def run(self, program: Program, ports: Sequence[Bound]) -> list[int]:
        """Run an inference; `ports` are the inputs, then the outputs. Returns the times of launches, if it takes them.

        Whatever it raises, the device no longer uses the ports' memory.

        Raises:
            OutOfMemoryError: the device has not the memory.
            DeviceUnavailableError: the device is lost or ended with an error.
        """
        recorded, own = self._of(program)
        inputs = len(program.inputs)
        memories, lent, writes, reads = [], [], [], []
        for index, (port, bound) in enumerate(zip([*program.inputs, *program.outputs], ports)):
            memory = bound.memory
            if memory is None:
                assert bound.array is not None
                memory = own.get(index)
                if memory is None:
                    memory = own[index] = self._runtime.allocate(port.nbytes)
                copies = writes if index < inputs else reads
                copies += [Copy(memory, bound.array.ctypes.data)] * (bound.array.nbytes > 0)
            elif memory.array is not None:
                lent.append(memory)
            memories.append(memory)
        parts = [memories[port].at(offset, memories[port].nbytes - offset) for port, offset in program.parts]
        self._held = (ports, parts)
        try:
            self._queue.submit(recorded, self._end, parts, lent, writes, reads)
        except BaseException:
            self._await()
            self._renew()
            raise
        self._await()
        self._held = ()
        if self._end.status:
            status = self._end.status
            self._renew()
            raise DeviceUnavailableError(
                f"{self._runtime.facts.name} ended an inference of model '{printable(program.name)}' with error "
                f"{status} of its driver."
            )
        return recorded.times

    def _await(self) -> None:
        """Wait for the end; an interrupt is held back until then."""
        try:
            self._end.wait()
        except BaseException:
            while self._end.is_pending:
                with suppress(BaseException):
                    self._end.wait()
            raise

    def _of(self, program: Program) -> tuple[Recorded, dict[int, Memory]]:
        found = self._recorded.get(program)
        if found is None:
            while len(self._recorded) >= MOST_PROGRAMS:
                self._recorded.popitem(last=False)
            found = self._recorded[program] = program.record(self._queue), {}
        self._recorded.move_to_end(program)
        return found

    def release_memory(self) -> None:
        """Free the memory of all programs; the next inference allocates again."""
        self._recorded.clear()
