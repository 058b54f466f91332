"""Devices of OpenCL drivers, through pyopencl; commands go to the driver's own functions, by address."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from functools import cache
from shutil import which
from threading import Lock
from typing import Any
from weakref import WeakSet, ref

import numpy as np
import pyopencl as cl

from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError, OutOfMemoryError
from cpuruntime.gpu_runtime import native
from cpuruntime.gpu_runtime.dlpack import memory_of
from cpuruntime.gpu_runtime.end import End, callback
from cpuruntime.gpu_runtime.interface import (
    BuildError,
    Call,
    Copy,
    Facts,
    GpuRuntime,
    Memory,
    Module,
    Queue,
    Recorded,
    Slot,
)
from cpuruntime.host import forks

OPTIONS = ["-cl-mad-enable", "-cl-std=CL1.2"]

_NO_MEMORY = (-4, -6, -61)  # allocation failed, no memory on the host, no such size
_STATUS, _COMPLETE = 0x11D3, 0
_STARTED, _ENDED = 0x1282, 0x1283
_READ_WRITE = 3
_PRIORITY, _THROTTLE = 0x1096, 0x1097
_HINTS = (4, 2, 1)  # low, medium, high

_in_child: list[Any] = []
"""Objects of a driver in a forked child: to release them could wait for a lock that a thread of the parent held."""


@cache
def _library() -> ctypes.CDLL:
    """What pyopencl is linked with: functions are found through its own module."""
    return ctypes.CDLL(cl._cl.__file__)


@cache
def _function(name: str) -> int:
    """The address of one of the driver's functions."""
    return ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value or 0


left_out: list[str] = []
"""Why devices that there are cannot be used, after `devices`."""


def devices() -> list[OpenclRuntime]:
    """A runtime for each device of each driver, graphics processors first. Empty without drivers."""
    try:
        found = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error:  # no driver
        return []
    usable = [device for device in found if device.available and device.compiler_available]
    if which("ld") is None:
        unlinked = [device for device in usable if "pocl" in device.platform.version.lower()]
        left_out[:] = [f"{one.name.strip()} needs the linker `ld`: install package binutils." for one in unlinked]
        usable = [device for device in usable if device not in unlinked]
    order = sorted(usable, key=lambda device: not device.type & cl.device_type.GPU)
    return [OpenclRuntime(device) for device in order]


class OpenclRuntime(GpuRuntime):
    """A device, in a context of its own, or in a user's."""

    dialect = "opencl"

    def __init__(self, device: cl.Device, context: cl.Context | None = None) -> None:
        self.device = device
        self.facts = _facts(device)
        self._context = context
        self._own: cl.CommandQueue | None = None
        self._allocated: WeakSet[OpenclMemory] = WeakSet()
        self._lock = Lock()

    @property
    def context(self) -> cl.Context:
        with self._lock:
            if self._context is None:
                self._context = cl.Context([self.device])
            return self._context

    def within(self, context: Any) -> OpenclRuntime:
        if isinstance(context, int):
            context = cl.Context.from_int_ptr(context, retain=True)
        if not isinstance(context, cl.Context) or self.device not in context.devices:
            raise InvalidArgumentError(f"{context!r} is no OpenCL context with device {self.facts.name}.")
        return OpenclRuntime(self.device, context)

    @property
    def copies(self) -> cl.CommandQueue:
        """The queue of what does not belong to an inference; several threads may use it."""
        context = self.context
        with self._lock:
            if self._own is None:
                self._own = cl.CommandQueue(context)
            return self._own

    def build(self, source: str) -> Module:
        return self._built(cl.Program(self.context, source))

    def load(self, binary: bytes) -> Module:
        try:
            return self._built(cl.Program(self.context, [self.device], [binary]))
        except cl.Error as error:
            raise BuildError(str(error)) from error

    def _built(self, program: cl.Program) -> Module:
        try:
            return OpenclModule(program.build(OPTIONS, cache_dir=False))
        except cl.Error as error:
            raise BuildError(str(error)) from error

    def allocate(self, nbytes: int, host: bool = False) -> Memory:
        self._check_size(nbytes)
        if host:
            memory: OpenclMemory = HostMemory(self, np.frombuffer(mmap.mmap(-1, max(nbytes, 1)), np.uint8)[:nbytes])
        else:
            memory = OpenclMemory(self._buffer(cl.mem_flags.READ_WRITE, size=max(nbytes, 1)), nbytes)
        with self._lock:
            self._allocated.add(memory)
        return memory

    def statistics(self) -> dict[str, int]:
        with self._lock:
            memories = list(self._allocated)
        on_host = sum(one.nbytes for one in memories if one.array is not None)
        return {"cl_mem": sum(one.nbytes for one in memories) - on_host, "usm_host": on_host}

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self.facts.largest:
            most = self.facts.largest / 2**20
            raise OutOfMemoryError(
                f"{self.facts.name} allocates at most {most:.0f} MiB at once; {nbytes / 2**20:.0f} MiB are needed. "
                "A smaller batch needs less."
            )

    def _buffer(self, flags: int, **arguments: Any) -> cl.Buffer:
        try:
            return cl.Buffer(self.context, flags, **arguments)
        except cl.Error as error:
            raise _error(error.code, f"{self.facts.name} gave no memory") from error

    def fill(self, memory: Memory, array: np.ndarray) -> None:
        if array.nbytes:
            self._copy(memory.handle, array)

    def read(self, memory: Memory, array: np.ndarray) -> None:
        if array.nbytes:
            self._copy(array, memory.handle)

    def _copy(self, to: Any, source: Any) -> None:
        try:
            cl.enqueue_copy(self.copies, to, source, is_blocking=True)
        except cl.Error as error:
            raise _error(error.code, f"{self.facts.name} copied no memory") from error

    def lend(self, array: np.ndarray) -> Memory | None:
        is_fit = array.nbytes and array.ctypes.data % mmap.PAGESIZE == 0
        if not self.facts.is_unified or not is_fit:
            return None
        return HostMemory(self, array.reshape(-1).view(np.uint8))

    def adopt(self, foreign: Any) -> Memory:
        offset, owner = 0, None
        if hasattr(foreign, "__dlpack_device__"):
            found = memory_of(foreign)
            if found is None:
                raise InvalidArgumentError(
                    f"A {type(foreign).__name__} lies elsewhere than in OpenCL memory, or with gaps: copy it."
                )
            foreign, offset, owner = found
        if isinstance(foreign, int):
            try:
                foreign = cl.Buffer.from_int_ptr(foreign, retain=True)
            except cl.Error as error:
                raise InvalidArgumentError(f"{foreign:#x} is no cl_mem: {error}.") from error
        if not isinstance(foreign, cl.MemoryObject):
            raise InvalidArgumentError(f"A {type(foreign).__name__} is no memory of OpenCL: give a pyopencl.Buffer.")
        if foreign.get_info(cl.mem_info.CONTEXT) != self.context:
            raise InvalidArgumentError(
                "The memory is of another OpenCL context. Make it in that of the device, which "
                "`core.get_default_context('GPU').handle` is, or make a remote context of yours."
            )
        memory = OpenclMemory(foreign, foreign.get_info(cl.mem_info.SIZE))
        memory.owner = owner
        return memory.at(offset, memory.nbytes - offset)

    def queue(self, priority: int = 1, throttle: int = 1, timing: bool = False) -> Queue:
        flags = cl.command_queue_properties.PROFILING_ENABLE if timing else 0
        words = [cl.queue_properties.PROPERTIES, flags]
        extensions = self.device.extensions.split()
        if "cl_khr_priority_hints" in extensions:
            words += [_PRIORITY, _HINTS[priority]]
        if "cl_khr_throttle_hints" in extensions:
            words += [_THROTTLE, _HINTS[throttle]]
        hints = len(words) > 2
        try:
            return OpenclQueue(self, cl.CommandQueue(self.context, properties=words if hints else flags), timing)
        except cl.Error as error:
            raise _error(error.code, f"{self.facts.name} gave no queue") from error


def _facts(device: cl.Device) -> Facts:
    extensions = device.extensions.split()
    kind = "gpu" if device.type & cl.device_type.GPU else "cpu" if device.type & cl.device_type.CPU else "other"
    return Facts(
        name=device.name.strip(),
        vendor=device.vendor.strip(),
        driver=f"{device.platform.name} {device.platform.version} {device.driver_version}".strip(),
        kind=kind,
        is_unified=bool(device.host_unified_memory),
        compute_units=device.max_compute_units,
        clock=device.max_clock_frequency,
        group_size=device.max_work_group_size,
        local_memory=device.local_mem_size,
        memory=device.global_mem_size,
        largest=device.max_mem_alloc_size,
        alignment=max(device.mem_base_addr_align // 8, 1),
        half="arithmetic" if "cl_khr_fp16" in extensions else "storage",
        has_double="cl_khr_fp64" in extensions,
    )


class OpenclModule(Module):
    """A built program."""

    def __init__(self, program: cl.Program) -> None:
        self.program = program

    def binary(self) -> bytes:
        return self.program.get_info(cl.program_info.BINARIES)[0]


class OpenclMemory(Memory):
    """A buffer, or a part of one."""

    def __init__(self, buffer: cl.MemoryObject, nbytes: int, whole: OpenclMemory | None = None, begin: int = 0) -> None:
        self.nbytes = nbytes
        self.handle = buffer
        self._whole, self._begin = whole, begin
        self.owner: object = None
        self._generation = forks.generation

    def at(self, offset: int, nbytes: int) -> Memory:
        if offset == 0 and nbytes == self.nbytes:
            return self
        begin = self._begin + offset
        try:
            part = (self._whole or self).handle.get_sub_region(begin, max(nbytes, 1))
        except cl.Error as error:
            raise _error(error.code, f"bytes {begin} to {begin + nbytes} of a buffer could not be named") from error
        return OpenclMemory(part, nbytes, self._whole or self, begin)

    def __del__(self) -> None:
        if "_generation" in self.__dict__ and self._generation != forks.generation:
            _in_child.append(self.handle)


class HostMemory(OpenclMemory):
    """Memory of the host that kernels use in place. It is mapped while it is not lent."""

    def __init__(self, runtime: OpenclRuntime, array: np.ndarray) -> None:
        self.array = array
        access = cl.mem_flags.READ_WRITE if array.flags.writeable else cl.mem_flags.READ_ONLY
        hostbuf = array if array.nbytes else np.zeros(1, np.uint8)
        super().__init__(runtime._buffer(access | cl.mem_flags.USE_HOST_PTR, hostbuf=hostbuf), array.nbytes)
        self.access = _READ_WRITE if array.flags.writeable else 1
        self.address = hostbuf.ctypes.data
        code = ctypes.c_int32()
        _map = _library().clEnqueueMapBuffer
        _map.restype, _map.argtypes = ctypes.c_size_t, [*[ctypes.c_size_t] * 9, ctypes.c_void_p]
        queue, place = runtime.copies.int_ptr, ctypes.addressof(code)
        address = _map(queue, self.handle.int_ptr, 1, self.access, 0, hostbuf.nbytes, 0, 0, 0, place)
        if code.value:
            raise _error(code.value, f"{runtime.facts.name} did not map memory")
        if address != self.address:
            raise DeviceUnavailableError(f"{runtime.facts.name} maps the host's memory elsewhere.")


class OpenclRecorded(Recorded):
    """Launches as commands; each has a kernel object of its own, so that its arguments stay."""

    def __init__(self, queue: OpenclQueue, calls: Sequence[Call]) -> None:
        self.times = []
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
                _function("clEnqueueNDRangeKernel"), queue.handle, kernel.int_ptr, dimensions, 0, size, size + 24, 0, 0,
                event,
            )  # fmt: skip

    def bind(self, bindings: Sequence[Memory]) -> None:
        """Set the arguments that are slots, where they change."""
        same = {index for index, (old, new) in enumerate(zip(self.bound, bindings)) if old() is new}
        self.bound = []
        for kernel, place, index in self.slots:
            if index not in same:
                kernel.set_arg(place, bindings[index].handle)
        self.bound = list(map(ref, bindings))

    def take_times(self) -> None:
        """Read the times of the launches, and release their events."""
        info, release = _library().clGetEventProfilingInfo, _library().clReleaseEvent
        moment, self.times = ctypes.c_uint64(), []
        for event in map(int, self.events):
            moments = []
            for number in (_STARTED, _ENDED):
                info(ctypes.c_void_p(event), number, 8, ctypes.byref(moment), None)
                moments.append(moment.value)
            release(ctypes.c_void_p(event))
            self.times.append(moments[1] - moments[0])


class OpenclQueue(Queue):
    """An in-order queue."""

    def __init__(self, runtime: OpenclRuntime, queue: cl.CommandQueue, timing: bool) -> None:
        self.runtime = runtime
        self.timing = timing
        self.queue = queue
        self.handle = queue.int_ptr
        self._event = np.zeros(1, np.uint64)
        self._code = np.zeros(1, np.int32)
        self._request = np.zeros(1, native.COMMANDS)
        self._table = np.zeros((0, native.WORDS), np.int64)

    def record(self, calls: Sequence[Call]) -> Recorded:
        try:
            return OpenclRecorded(self, calls)
        except cl.Error as error:
            raise _error(error.code, f"{self.runtime.facts.name} refuses a kernel's arguments") from error

    def submit(
        self,
        recorded: Recorded,
        end: End,
        bindings: Sequence[Memory] = (),
        lent: Sequence[Memory] = (),
        writes: Sequence[Copy] = (),
        reads: Sequence[Copy] = (),
    ) -> None:
        assert isinstance(recorded, OpenclRecorded)
        recorded.bind(bindings)
        unmapped = [self._row("clEnqueueUnmapMemObject", m.handle.int_ptr, m.address) for m in lent]
        written = [self._copy("clEnqueueWriteBuffer", copy) for copy in writes]
        after = [self._copy("clEnqueueReadBuffer", copy) for copy in reads]
        code = self._code.ctypes.data
        for memory in lent:
            arguments = (memory.handle.int_ptr, 0, memory.access, 0, max(memory.nbytes, 1), 0, 0, 0, code)
            after.append(self._row("clEnqueueMapBuffer", *arguments, found=code))
        event = self._event.ctypes.data
        # A marker, since the last command may be of any kind; then the callback for its event, and the start of it all.
        marker = self._row("clEnqueueMarkerWithWaitList", 0, 0, event)
        flush = [_function("clFlush"), self.handle, *[0] * (native.WORDS - 2)]
        before = np.array([*unmapped, *written], np.int64).reshape(-1, native.WORDS)
        self._table = np.concatenate([before, recorded.commands, np.array([*after, marker, flush], np.int64)])
        failed, error = self._run(self._table)
        if failed >= 0:
            self._drain()
            what = f"{self.runtime.facts.name} refuses command {failed} of {len(self._table)}"
            raise _error(error, what)
        handle = int(self._event[0])
        end.begin(self._asker(handle, recorded))
        _library().clSetEventCallback(
            ctypes.c_void_p(handle), _COMPLETE, ctypes.c_void_p(callback()), ctypes.c_void_p(end.address)
        )

    def _run(self, table: np.ndarray) -> tuple[int, int]:
        request = self._request[0]
        request["table"], request["count"] = table.ctypes.data, len(table)
        native.submit.entry(self._request.ctypes.data, 0, 0)
        return int(request["failed"]), int(request["error"])

    def _drain(self) -> None:
        """Wait for the commands before one that failed: they use memory that is about to be freed."""
        try:
            self.queue.finish()
        except cl.Error:  # the device is lost
            return

    def _row(self, name: str, *arguments: int, found: int = 0) -> list[int]:
        rest = [0] * (native.ARGUMENTS - 1 - len(arguments))
        return [_function(name), self.handle, *arguments, *rest, found]

    def _copy(self, name: str, copy: Copy) -> list[int]:
        return self._row(name, copy.memory.handle.int_ptr, 0, 0, copy.memory.nbytes, copy.address, 0, 0, 0)

    def _asker(self, event: int, recorded: OpenclRecorded) -> Callable[[], int | None]:
        """What says how the submission is that ends with an event."""
        status, library = ctypes.c_int32(), _library()

        def ask() -> int | None:
            error = library.clGetEventInfo(ctypes.c_void_p(event), _STATUS, 4, ctypes.byref(status), None)
            found = error or status.value
            if found > 0:
                return None
            if self.timing and found == 0:
                recorded.take_times()
            library.clReleaseEvent(ctypes.c_void_p(event))
            return found

        return ask


def _error(code: int, what: str) -> Exception:
    """The error for a driver's number."""
    name = cl.status_code.to_string(code, f"error {code}")
    if code in _NO_MEMORY:
        return OutOfMemoryError(f"{what}: {name}. A smaller batch or fewer streams need less memory.")
    return DeviceUnavailableError(f"{what}: {name}.")
