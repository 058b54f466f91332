"""Remote contexts and tensors: memory of a device that stays there between inferences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, NoReturn

import numpy as np

from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.remote import DeviceContext, DeviceTensor
from cpuruntime.errors import InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Shape, Type


class RemoteTensor(Tensor):
    """A tensor in a device's memory. `set_tensor` lets inferences read or write it there, without a copy.

    `copy_to` and `copy_from` move its elements to and from the host; `get_params()["MEM_HANDLE"]` is the driver's
    object. `RemoteContext.create_tensor` makes one.
    """

    __slots__ = ("_device", "memory")

    memory: DeviceTensor
    _device: str

    def __init__(self, *arguments: Any, **named: Any) -> None:
        raise UnsupportedError(
            f"{type(self).__name__}: a context makes them: core.get_default_context('GPU').create_tensor(type, shape)."
        )

    @classmethod
    def of(cls, memory: DeviceTensor, device: str) -> RemoteTensor:
        """The tensor on a device's memory."""
        tensor = cls.__new__(cls)
        tensor.memory, tensor._device = memory, device
        tensor._type = memory.element_type
        return tensor

    @property
    def data(self) -> NoReturn:
        """There is none: the memory is the device's."""
        raise UnsupportedError("The memory of a remote tensor is the device's: copy_to(tensor) brings it to the host.")

    elements = is_packed = str_data = bytes_data = data  # type: ignore[assignment]

    @property
    def shape(self) -> Shape:
        """The shape, which stays."""
        return Shape(self.memory.shape)

    @shape.setter
    def shape(self, shape: Iterable[int] | str) -> None:
        if tuple(Shape(shape)) != self.memory.shape:
            raise UnsupportedError(f"The shape of a remote tensor stays {list(self.memory.shape)}: make another one.")

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.memory.shape)

    @property
    def byte_size(self) -> int:
        """The number of bytes."""
        return self.memory.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from an element to the next one along each axis."""
        itemsize, lengths = self._type.to_dtype().itemsize, self.memory.shape
        return tuple(prod(lengths[axis + 1 :]) * itemsize for axis in range(len(lengths)))

    def is_continuous(self) -> bool:
        """Whether no bytes lie between elements."""
        return True

    def get_device_name(self) -> str:
        """The name of its device."""
        return self._device

    def get_params(self) -> dict[str, Any]:
        """MEM_HANDLE: the driver's object."""
        return {"MEM_HANDLE": self.memory.handle, "SHARED_MEM_TYPE": "OCL_BUFFER"}

    def copy_to(self, target_tensor: Tensor) -> None:
        """Copy the elements to another tensor of the same type, which takes on the shape."""
        array = self._array_of(target_tensor if not isinstance(target_tensor, RemoteTensor) else None)
        self.memory.read(array)
        if isinstance(target_tensor, RemoteTensor):
            target_tensor.copy_from(Tensor(array, shared_memory=True))

    def _array_of(self, target: Tensor | None) -> np.ndarray:
        if target is None:
            return np.empty(self.memory.shape, self._type.to_dtype())
        if target.element_type != self._type:
            raise InvalidArgumentError(f"{target!r} is of another element type than {self!r}.")
        target.shape = self.shape  # type: ignore[assignment]
        return target.data

    def copy_from(self, source_tensor: Any = None, *, source: Any = None) -> None:
        """Copy the elements of another tensor, an array or a list, of the same type and shape."""
        given = source if source_tensor is None else source_tensor
        source_tensor = given if isinstance(given, Tensor) else Tensor(given)
        if source_tensor.element_type != self._type or tuple(source_tensor.shape) != self.memory.shape:
            raise InvalidArgumentError(f"{source_tensor!r} is of another type or shape than {self!r}.")
        if isinstance(source_tensor, RemoteTensor):
            source_tensor.copy_to(self)
        else:
            self.memory.write(np.ascontiguousarray(source_tensor.data))

    def __repr__(self) -> str:
        return f"<RemoteTensor: {self._type.get_type_name()}{list(self.memory.shape)} on {self._device}>"


class RemoteContext:
    """Where remote tensors of a device lie; `Core.create_context` and `Core.get_default_context` make one.

    `handle` is the driver's context, as a pyopencl.Context, for programs that use it beside this package.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        raise UnsupportedError(
            f"{type(self).__name__}: a core makes them: core.get_default_context('GPU'), core.create_context('GPU', "
            "{'OCL_CONTEXT': context})."
        )

    _context: DeviceContext

    @classmethod
    def of(cls, context: DeviceContext) -> RemoteContext:
        """The public object for a device's context."""
        made = cls.__new__(cls)
        made._context = context
        return made

    @property
    def handle(self) -> Any:
        """The driver's context."""
        return self._context.handle

    @property
    def plugin(self) -> Any:
        """What compiles models for it."""
        return self._context.plugin

    def get_device_name(self) -> str:
        """The name of its device."""
        return self._context.device

    def get_params(self) -> dict[str, Any]:
        """OCL_CONTEXT: the driver's context."""
        return {"CONTEXT_TYPE": "OCL", "OCL_CONTEXT": self._context.handle}

    def create_tensor(self, type: Any, shape: Any, properties: Mapping[str, Any] | None = None) -> RemoteTensor:
        """A tensor in the device's memory, with any content.

        With MEM_HANDLE among the properties on the memory of another library: a pyopencl.Buffer, the number of a cl_mem
        or a DLPack tensor of OpenCL. It stays alive as long as the tensor.

        Raises:
            InvalidArgumentError: the memory is none, too small, or of another context.
            OutOfMemoryError: the device has not the memory.
        """
        foreign = dict(properties or {}).get("MEM_HANDLE")
        memory = self._context.create(Type(type), tuple(Shape(shape)), foreign)
        return RemoteTensor.of(memory, self._context.device)

    def create_host_tensor(self, type: Any, shape: Any) -> Tensor:
        """A tensor in the host's memory that inferences use in place where the device can. Raises OutOfMemoryError."""
        return Tensor(self._context.host_array(Type(type), tuple(Shape(shape))), shared_memory=True)

    def __repr__(self) -> str:
        return f"<RemoteContext: {self._context.device}>"
