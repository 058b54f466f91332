"""Memory of OpenCL: buffers, parts of them, and the host's own memory as buffers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pyopencl as cl

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.gpu_runtime.interface import Memory
from cpuruntime.gpu_runtime.opencl_driver import error_of, library
from cpuruntime.host import forks

_READ_WRITE = 3

_in_child: list[Any] = []
"""Objects of a driver in a forked child: to release them could wait for a lock that a thread of the parent held."""


def new_buffer(context: cl.Context, name: str, flags: int, **arguments: Any) -> cl.Buffer:
    """A buffer on the device of this name."""
    try:
        return cl.Buffer(context, flags, **arguments)
    except cl.Error as error:
        raise error_of(error.code, f"{name} gave no memory") from error


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
            raise error_of(error.code, f"bytes {begin} to {begin + nbytes} of a buffer could not be named") from error
        return OpenclMemory(part, nbytes, self._whole or self, begin)

    def __del__(self) -> None:
        if "_generation" in self.__dict__ and self._generation != forks.generation:
            _in_child.append((self.handle, self.array))


class PinnedMemory(OpenclMemory):
    """Memory of the host that a device with memory of its own copies fastest. It is always mapped, and never lent."""

    def __init__(self, context: cl.Context, queue: cl.CommandQueue, name: str, nbytes: int) -> None:
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
        super().__init__(new_buffer(context, name, flags, size=max(nbytes, 1)), nbytes)
        try:
            access = cl.map_flags.READ | cl.map_flags.WRITE
            self.array, _ = cl.enqueue_map_buffer(queue, self.handle, access, 0, (nbytes,), np.uint8, is_blocking=True)
        except cl.Error as error:
            raise error_of(error.code, f"{name} did not map memory") from error


class HostMemory(OpenclMemory):
    """Memory of the host that kernels use in place. It is mapped while it is not lent."""

    def __init__(self, context: cl.Context, queue: cl.CommandQueue, name: str, array: np.ndarray) -> None:
        self.array = array
        access = cl.mem_flags.READ_WRITE if array.flags.writeable else cl.mem_flags.READ_ONLY
        hostbuf = array if array.nbytes else np.zeros(1, np.uint8)
        super().__init__(new_buffer(context, name, access | cl.mem_flags.USE_HOST_PTR, hostbuf=hostbuf), array.nbytes)
        self.access = _READ_WRITE if array.flags.writeable else 1
        self.address = hostbuf.ctypes.data
        code = ctypes.c_int32()
        _map = library().clEnqueueMapBuffer
        _map.restype, _map.argtypes = ctypes.c_size_t, [*[ctypes.c_size_t] * 9, ctypes.c_void_p]
        place = ctypes.addressof(code)
        address = _map(queue.int_ptr, self.handle.int_ptr, 1, self.access, 0, hostbuf.nbytes, 0, 0, 0, place)
        if code.value:
            raise error_of(code.value, f"{name} did not map memory")
        if address != self.address:
            raise DeviceUnavailableError(f"{name} maps the host's memory elsewhere.")
