"""Remote contexts and tensors of the GPU."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.devices.remote import DeviceContext, DeviceTensor
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.gpu_runtime.interface import GpuRuntime, Memory
from cpuruntime.graph import Type


class GpuContext(DeviceContext):
    """The driver's context of a device."""

    def __init__(self, device: str, runtime: GpuRuntime, plugin: Any) -> None:
        self.device, self.runtime, self.plugin = device, runtime, plugin
        self.handle = runtime.context

    def create(self, element_type: Type, shape: tuple[int, ...], foreign: Any = None) -> GpuTensor:
        nbytes = prod(shape) * element_type.to_dtype().itemsize
        memory = self.runtime.allocate(nbytes) if foreign is None else self.runtime.adopt(foreign)
        if memory.nbytes < nbytes:
            raise InvalidArgumentError(
                f"A tensor {element_type.get_type_name()}{list(shape)} has {nbytes} bytes; the memory has "
                f"{memory.nbytes}."
            )
        return GpuTensor(self.runtime, memory.at(0, nbytes), element_type, shape)

    def host_array(self, element_type: Type, shape: tuple[int, ...]) -> np.ndarray:
        dtype = element_type.to_dtype()
        memory = self.runtime.allocate(prod(shape) * dtype.itemsize, host=True)
        return np.ndarray(shape, dtype, memory.array)


class GpuTensor(DeviceTensor):
    """A buffer."""

    def __init__(self, runtime: GpuRuntime, memory: Memory, element_type: Type, shape: tuple[int, ...]) -> None:
        self.runtime, self.memory = runtime, memory
        self.element_type, self.shape, self.nbytes = element_type, shape, memory.nbytes
        self.handle = memory.handle

    def read(self, array: np.ndarray) -> None:
        self.runtime.read(self.memory, array)

    def write(self, array: np.ndarray) -> None:
        self.runtime.fill(self.memory, array)
