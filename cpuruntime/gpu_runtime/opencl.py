"""Devices of OpenCL drivers, through pyopencl."""

from __future__ import annotations

import ctypes
import mmap
from shutil import which
from threading import Lock
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
import pyopencl as cl

from cpuruntime.errors import InvalidArgumentError, OutOfMemoryError
from cpuruntime.gpu_runtime.dlpack import memory_of
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import BuildError, Facts, GpuRuntime, Memory, Module, Queue
from cpuruntime.gpu_runtime.opencl_driver import error_of, library, listen, without_remarks
from cpuruntime.gpu_runtime.opencl_memory import HostMemory, OpenclMemory, PinnedMemory, new_buffer
from cpuruntime.gpu_runtime.opencl_queue import OpenclQueue

_ORDER = ("gpu", "cpu", "other")

OPTIONS = ["-cl-mad-enable", "-cl-std=CL1.2"]

_PRIORITY, _THROTTLE = 0x1096, 0x1097
_HINTS = (4, 2, 1)  # low, medium, high

left_out: list[str] = []
"""Why devices that there are cannot be used, after `devices`."""


def devices() -> list[OpenclRuntime]:
    """A runtime for each device of each driver, in the order of _ORDER. Empty without drivers."""
    try:
        found = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error:  # no driver
        return []
    usable = [device for device in found if device.available and device.compiler_available]
    if which("ld") is None:
        unlinked = [device for device in usable if "pocl" in device.platform.version.lower()]
        left_out[:] = [f"{one.name.strip()} needs the linker `ld`: install package binutils." for one in unlinked]
        usable = [device for device in usable if device not in unlinked]
    return sorted(map(OpenclRuntime, usable), key=lambda runtime: _ORDER.index(runtime.facts.kind))


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
            with without_remarks:
                return OpenclModule(program.build(OPTIONS, cache_dir=False))
        except cl.Error as error:
            raise BuildError(str(error)) from error

    def allocate(self, nbytes: int, host: bool = False) -> Memory:
        self._check_size(nbytes)
        if host and not self.facts.is_unified and nbytes:
            memory: OpenclMemory = PinnedMemory(self.context, self.copies, self.facts.name, nbytes)
        elif host:
            memory = self._on_host(np.frombuffer(mmap.mmap(-1, max(nbytes, 1)), np.uint8)[:nbytes])
        else:
            memory = OpenclMemory(
                new_buffer(self.context, self.facts.name, cl.mem_flags.READ_WRITE, size=max(nbytes, 1)), nbytes
            )
        with self._lock:
            self._allocated.add(memory)
        return memory

    def _on_host(self, array: np.ndarray) -> HostMemory:
        return HostMemory(self.context, self.copies, self.facts.name, array)

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

    def fill(self, memory: Memory, array: np.ndarray) -> None:
        if array.nbytes:
            self._copy(memory.handle, array)

    def read(self, memory: Memory, array: np.ndarray) -> None:
        if array.nbytes:
            self._copy(array, memory.handle)

    def _copy(self, to: Any, source: Any) -> None:
        end = End()
        try:
            event = cl.enqueue_copy(self.copies, to, source, is_blocking=False)
            self.copies.flush()
        except cl.Error as error:
            raise error_of(error.code, f"{self.facts.name} copied no memory") from error
        library().clRetainEvent(ctypes.c_void_p(event.int_ptr))
        listen(end, event.int_ptr)
        end.wait_long((to, source, event), f"{self.facts.name} did not end a copy")
        if end.status:
            raise error_of(end.status, f"{self.facts.name} copied no memory")

    def lend(self, array: np.ndarray) -> Memory | None:
        is_fit = array.nbytes and array.ctypes.data % mmap.PAGESIZE == 0
        if not self.facts.is_unified or not is_fit:
            return None
        return self._on_host(array.reshape(-1).view(np.uint8))

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
            return OpenclQueue(
                self.facts.name, cl.CommandQueue(self.context, properties=words if hints else flags), timing
            )
        except cl.Error as error:
            raise error_of(error.code, f"{self.facts.name} gave no queue") from error


def _kind(device: cl.Device) -> Literal["gpu", "cpu", "other"]:
    if "oclgrind" in device.platform.name.lower():  # interprets kernels, and says that it is all kinds
        return "other"
    return "gpu" if device.type & cl.device_type.GPU else "cpu" if device.type & cl.device_type.CPU else "other"


def _facts(device: cl.Device) -> Facts:
    extensions = device.extensions.split()
    return Facts(
        name=device.name.strip(),
        vendor=device.vendor.strip(),
        driver=f"{device.platform.name} {device.platform.version} {device.driver_version}".strip(),
        kind=_kind(device),
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
