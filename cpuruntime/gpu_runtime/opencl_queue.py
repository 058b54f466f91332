"""Queues of OpenCL: launches that are recorded once and submitted by the driver's own functions, by address."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import ref

import numpy as np
import pyopencl as cl

from cpuruntime.gpu_runtime import native
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import Call, Copy, Memory, Prepared, Queue, Recorded, Slot
from cpuruntime.gpu_runtime.opencl_driver import error_of, function, library, listen

_STARTED, _ENDED = 0x1282, 0x1283


class OpenclRecorded(Recorded):
    """Launches as commands; each has a kernel object of its own, so that its arguments stay."""

    def __init__(self, queue: OpenclQueue, calls: Sequence[Call]) -> None:
        self.times = []
        self.name = queue.name
        self.commands = np.zeros((len(calls), native.WORDS), np.int64)
        self.sizes = np.zeros((len(calls), 2, 3), np.uint64)
        self.slots: list[tuple[cl.Kernel, int, int]] = []
        self.bound: list[ref[Memory]] = []
        self.kernels = []
        self.memories = [argument for call in calls for argument in call.arguments if isinstance(argument, Memory)]
        self.events = np.zeros(len(calls), np.uint64)
        for index, call in enumerate(calls):
            kernel = cl.Kernel(call.module.program, call.entry)
            self.kernels.append(kernel)
            for place, argument in enumerate(call.arguments):
                if isinstance(argument, Slot):
                    self.slots.append((kernel, place, argument.index))
                elif isinstance(argument, Memory):
                    kernel.set_arg(place, argument.handle)
                else:
                    kernel.set_arg(place, np.int32(argument) if isinstance(argument, int) else np.float32(argument))
            dimensions = len(call.global_size)
            self.sizes[index, 0, :dimensions], self.sizes[index, 1, :dimensions] = call.global_size, call.local_size
            size = self.sizes[index].ctypes.data
            event = self.events[index:].ctypes.data if queue.timing else 0
            self.commands[index, :10] = (
                function("clEnqueueNDRangeKernel"), queue.handle, kernel.int_ptr, dimensions, 0, size, size + 24, 0, 0,
                event,
            )  # fmt: skip

    def bind(self, bindings: Sequence[Memory]) -> None:
        """Set the arguments that are slots, where they change."""
        same = {index for index, (old, new) in enumerate(zip(self.bound, bindings)) if old() is new}
        self.bound = []
        try:
            for kernel, place, index in self.slots:
                if index not in same:
                    kernel.set_arg(place, bindings[index].handle)
        except cl.Error as error:
            raise error_of(error.code, f"{self.name} refuses a kernel's arguments") from error
        self.bound = list(map(ref, bindings))

    def take_times(self) -> None:
        """Read the times of the launches, and release their events."""
        info, release = library().clGetEventProfilingInfo, library().clReleaseEvent
        moment, self.times = ctypes.c_uint64(), []
        for event in map(int, self.events):
            moments = []
            for number in (_STARTED, _ENDED):
                info(ctypes.c_void_p(event), number, 8, ctypes.byref(moment), None)
                moments.append(moment.value)
            release(ctypes.c_void_p(event))
            self.times.append(moments[1] - moments[0])


@dataclass(frozen=True)
class OpenclPrepared(Prepared):
    """All commands of an inference."""

    recorded: OpenclRecorded
    table: np.ndarray


class OpenclQueue(Queue):
    """An in-order queue."""

    def __init__(self, name: str, queue: cl.CommandQueue, timing: bool) -> None:
        self.name = name
        self.timing = timing
        self.queue = queue
        self.handle = queue.int_ptr
        self._event = np.zeros(1, np.uint64)
        self._code = np.zeros(1, np.int32)
        self._request = np.zeros(1, native.COMMANDS)
        # A marker, since the last command may be of any kind, and the start of it all.
        marker = self._row("clEnqueueMarkerWithWaitList", 0, 0, self._event.ctypes.data)
        flush = [function("clFlush"), self.handle, *[0] * (native.WORDS - 2)]
        self._closing = np.array([marker, flush], np.int64)

    def record(self, calls: Sequence[Call]) -> Recorded:
        try:
            return OpenclRecorded(self, calls)
        except cl.Error as error:
            raise error_of(error.code, f"{self.name} refuses a kernel's arguments") from error

    def prepare(
        self,
        recorded: Recorded,
        bindings: Sequence[Memory] = (),
        lent: Sequence[Memory] = (),
        writes: Sequence[Copy] = (),
        reads: Sequence[Copy] = (),
    ) -> Prepared:
        assert isinstance(recorded, OpenclRecorded)
        recorded.bind(bindings)
        unmapped = [self._row("clEnqueueUnmapMemObject", m.handle.int_ptr, m.address) for m in lent]
        written = [self._copy("clEnqueueWriteBuffer", copy) for copy in writes]
        after = [self._copy("clEnqueueReadBuffer", copy) for copy in reads]
        code = self._code.ctypes.data
        for memory in lent:
            arguments = (memory.handle.int_ptr, 0, memory.access, 0, max(memory.nbytes, 1), 0, 0, 0, code)
            after.append(self._row("clEnqueueMapBuffer", *arguments, found=code))
        before = np.array([*unmapped, *written], np.int64).reshape(-1, native.WORDS)
        table = np.concatenate([before, recorded.commands, np.array([*after, *self._closing], np.int64)])
        return OpenclPrepared(recorded, table)

    def submit(self, prepared: Prepared, end: End) -> None:
        assert isinstance(prepared, OpenclPrepared)
        failed, error = self._run(prepared.table)
        if failed >= 0:
            if self._run(self._closing)[0] < 0:  # else the device is lost
                self._listen(end, None)
            raise error_of(error, f"{self.name} refuses command {failed} of {len(prepared.table)}")
        self._listen(end, prepared.recorded)

    def _listen(self, end: End, recorded: OpenclRecorded | None) -> None:
        """Let `end` hear of the marker that was submitted last."""
        listen(end, int(self._event[0]), recorded.take_times if recorded and self.timing else None)

    def _run(self, table: np.ndarray) -> tuple[int, int]:
        request = self._request[0]
        request["table"], request["count"] = table.ctypes.data, len(table)
        native.submit.entry(self._request.ctypes.data, 0, 0)
        return int(request["failed"]), int(request["error"])

    def _row(self, name: str, *arguments: int, found: int = 0) -> list[int]:
        rest = [0] * (native.ARGUMENTS - 1 - len(arguments))
        return [function(name), self.handle, *arguments, *rest, found]

    def _copy(self, name: str, copy: Copy) -> list[int]:
        return self._row(name, copy.memory.handle.int_ptr, 0, 0, copy.memory.nbytes, copy.address, 0, 0, 0)
