"""One inference at a time on the GPU: arrays, which kernels use in place where they can, and memory of the device."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.gpu.context import GpuTensor
from cpuruntime.devices.gpu.stream import Bound
from cpuruntime.devices.ports import PortInfo
from cpuruntime.devices.serial import SerialRequest
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.gpu_runtime.interface import Memory
from cpuruntime.host.memory import address_of

if TYPE_CHECKING:
    from cpuruntime.devices.gpu.program import Program
    from cpuruntime.devices.remote import DeviceTensor
    from cpuruntime.devices.serial import _Inference


class _Own:
    """Memory of a request's own at a port, which the host sees. `array` is the latest in it."""

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.memory = memory
        self.array = np.ndarray(shape, dtype, memory.array)


class GpuRequest(SerialRequest):
    """The bound memory of one inference at a time."""

    model: Any

    def bind_own(self, inputs: Sequence[PortInfo], outputs: Sequence[PortInfo]) -> None:
        self._ports = inputs
        self._own_inputs: list[_Own | None] = [None] * len(inputs)
        self._inputs: list[np.ndarray | None] = [None] * len(inputs)
        self._bound_inputs = [Bound(None)] * len(inputs)
        shapes = [tuple(info.partial_shape.get_min_shape()) for info in outputs]
        own = [self._new(shape, info.dtype) for shape, info in zip(shapes, outputs)]
        self._outputs = [one.array for one in own]
        self._bound_outputs = [Bound(one.array, self.model.in_place(one.memory)) for one in own]
        self._users = [False] * len(outputs)
        self._program: Program | None = None
        for index, info in enumerate(inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))

    def _new(self, shape: tuple[int, ...], dtype: np.dtype) -> _Own:
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return _Own(self.model.runtime.allocate(nbytes, host=True), shape, dtype)

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        own = self._own_inputs[index]
        dtype = self._ports[index].dtype
        if own is None or own.array.shape != shape:
            nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            is_room = own is not None and nbytes <= own.memory.nbytes
            own = _Own(own.memory, shape, dtype) if own is not None and is_room else self._new(shape, dtype)
            self._own_inputs[index] = own
        self._inputs[index] = own.array
        self._bound_inputs[index] = Bound(own.array, self.model.in_place(own.memory))
        return own.array

    def set_input(self, index: int, array: np.ndarray) -> None:
        own, old = self._own_inputs[index], self._bound_inputs[index]
        if own is not None and address_of(array) == address_of(own.array) and array.shape == own.array.shape:
            self.input_array(index, array.shape)
        elif not _is_same(old.array, array):
            self._bound_inputs[index] = Bound(array, self.model.runtime.lend(array))
        self._inputs[index] = array

    def set_output(self, index: int, array: np.ndarray) -> None:
        old = self._bound_outputs[index]
        if not _is_same(old.array, array):
            self._bound_outputs[index] = Bound(array, self.model.runtime.lend(array))
        self._outputs[index] = array
        self._users[index] = True

    def set_remote(self, side: str, index: int, tensor: DeviceTensor) -> None:
        if not isinstance(tensor, GpuTensor) or tensor.runtime is not self.model.runtime:
            raise InvalidArgumentError(
                "The remote tensor is of another context than the model: compile the model for that context, as by "
                "compile_model(model, context)."
            )
        placeholder = np.broadcast_to(np.zeros((), tensor.element_type.to_dtype()), tensor.shape)
        bound = Bound(None, tensor.memory)
        if side == "input":
            self._inputs[index], self._bound_inputs[index] = placeholder, bound
        else:
            self._outputs[index], self._bound_outputs[index], self._users[index] = placeholder, bound, True

    def compute(self, inference: _Inference) -> None:
        inputs = self.bound_inputs()
        inference.begin(-1)
        program = self._program = self.model.programs.of([array.shape for array in inputs])
        for index, port in enumerate(program.outputs):
            self._fit(index, port.shape)
        bound = [*self._bound_inputs, *self._bound_outputs]
        found = program.times(self.model.pool.run(inference, program, bound))
        self.times = [
            timedelta(microseconds=found[place] / 1e3) if place in found else None
            for place in range(len(program.steps) if found else 0)
        ]
        for output, source in program.same:
            self._copy(self._bound_inputs[source], self._bound_outputs[output])

    def profiling(self) -> list[ProfilingInfo]:
        program = self._program or self.model.programs.latest
        if program is None:
            return []
        times = self.times if self._program and self.times else [None] * len(program.steps)
        rows = []
        for place, (step, duration) in enumerate(zip(program.steps, times)):
            status = ProfilingInfo.NOT_RUN if duration is None else ProfilingInfo.EXECUTED
            taken = duration or timedelta()
            rows.append(ProfilingInfo(status, taken, taken, step.name, step.op_type, program.names(place)))
        return rows

    def _copy(self, source: Bound, target: Bound) -> None:
        """Copy an input to an output that is the same value."""
        runtime, array = self.model.runtime, source.array
        if array is None:
            array = np.empty(source.memory.nbytes, np.uint8)
            runtime.read(source.memory, array)
        if target.array is None:
            runtime.fill(target.memory, array)
        else:
            target.array[...] = array.view(target.array.dtype).reshape(target.array.shape)

    def _fit(self, index: int, shape: tuple[int, ...]) -> None:
        """Bind an array of a shape to an output that has another one."""
        if self._outputs[index].shape == shape:
            return
        info = self.model.outputs[index]
        if self._users[index]:
            raise InvalidArgumentError(
                f"Output '{printable(info.name)}' has shape {list(shape)} for these inputs; the array that was set "
                f"for it has {list(self._outputs[index].shape)}."
            )
        own = self._new(shape, info.dtype)
        self._outputs[index] = own.array
        self._bound_outputs[index] = Bound(own.array, self.model.in_place(own.memory))


def _is_same(old: np.ndarray | None, new: np.ndarray) -> bool:
    """Whether an array is the memory that is bound already."""
    return old is not None and old.nbytes == new.nbytes and address_of(old) == address_of(new)
