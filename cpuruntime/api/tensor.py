"""Tensors: memory with an element type and a shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, overload

import numpy as np

from cpuruntime.api.ports import ConstOutput
from cpuruntime.errors import InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Shape, Type
from cpuruntime.host.memory import aligned_zeros

_FORMS = (
    "Tensor(array, shared_memory=False), Tensor(array, shape, type), Tensor(type, shape), "
    "Tensor(other, begin, end), Tensor(port) or Tensor(port, array)"
)


class Tensor:
    """Memory with an element type and a shape; `data` is a NumPy view of it.

    - `Tensor(array, shared_memory=False)`: a copy of an array or list; with True the array's own memory, which must be
      C-contiguous. Strings that are not str objects are always copied.
    - `Tensor(array, shape, type=Type.dynamic)`: the array's own memory seen with this shape and type.
    - `Tensor(type, shape)`: new memory, 64-byte aligned, zeros.
    - `Tensor(other, begin, end)`: the part of another tensor from index `begin` to before `end`, its memory shared.
    - `Tensor(port)`, `Tensor(port, array)`: new memory, or the array's own, for a port.

    Not safe to change from two threads. Arguments that fit none of these raise InvalidArgumentError.
    """

    __slots__ = ("__weakref__", "_array", "_resize", "_shared", "_storage", "_type")

    _array: np.ndarray
    _storage: np.ndarray | None
    _shared: bool
    _resize: Callable[[tuple[int, ...]], np.ndarray] | None
    _type: Type

    @overload
    def __init__(self, array: Any, shared_memory: bool = False) -> None: ...

    @overload
    def __init__(self, array: np.ndarray, shape: Iterable[int], type: Type = Type.dynamic) -> None: ...

    @overload
    def __init__(self, type: Any, shape: Iterable[int]) -> None: ...

    @overload
    def __init__(self, other: Tensor, begin: Sequence[int], end: Sequence[int]) -> None: ...

    @overload
    def __init__(self, port: ConstOutput, array: np.ndarray | None = None) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._resize = None
        self._shared = True
        try:
            self._initializer(args, kwargs)(*args, **kwargs)
        except TypeError as error:
            given = ", ".join([type(a).__name__ for a in args] + [f"{k}={type(v).__name__}" for k, v in kwargs.items()])
            raise InvalidArgumentError(f"Tensor({given}) is not one of {_FORMS}.") from error

    def _initializer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., None]:
        first = args[0] if args else None
        if isinstance(first, Tensor) or "other" in kwargs:
            return self._from_part
        if isinstance(first, ConstOutput) or "port" in kwargs:
            return self._from_port
        if isinstance(first, (Type, type, np.dtype)) or ("type" in kwargs and "array" not in kwargs and not args):
            return self._from_type
        second = args[1] if len(args) > 1 else kwargs.get("shape")
        return self._from_array if second is None or isinstance(second, bool) else self._from_memory

    def _from_array(self, array: Any, shared_memory: bool = False) -> None:
        given = np.asarray(array)
        if shared_memory and given.dtype.kind not in "SU":
            _check_contiguous(given)
            self._hold(given)
            return
        element_type = Type(given.dtype)
        own = aligned_zeros(given.shape, element_type.to_dtype())
        own[...] = _decoded(given) if element_type is Type.string else given
        self._hold(own, shared=False)

    def _from_memory(self, array: np.ndarray, shape: Iterable[int], type: Type = Type.dynamic) -> None:
        _check_contiguous(array)
        element_type = Type(array.dtype) if type == Type.dynamic else Type(type)
        if element_type.bitwidth < 8 and array.dtype != element_type.to_dtype():
            raise UnsupportedError(f"Type {element_type.get_type_name()} packed in {array.dtype} is not supported.")
        try:
            self._hold(array.view(element_type.to_dtype()).reshape(Shape(shape)))
        except ValueError as error:
            wanted = f"{element_type.get_type_name()}{Shape(shape)}"
            raise InvalidArgumentError(
                f"An array of {array.size} {array.dtype} elements cannot be seen as {wanted}."
            ) from error

    def _from_type(self, type: Any, shape: Iterable[int]) -> None:
        self._hold(aligned_zeros(Shape(shape), Type(type).to_dtype()), shared=False)

    def _from_part(self, other: Tensor, begin: Sequence[int], end: Sequence[int]) -> None:
        shape = other._array.shape
        legal = len(begin) == len(end) == len(shape) and all(
            0 <= low <= high <= extent for low, high, extent in zip(begin, end, shape)
        )
        if not legal:
            raise InvalidArgumentError(
                f"The part from {list(begin)} to {list(end)} does not lie in a tensor of shape {list(shape)}."
            )
        self._hold(other._array[tuple(slice(low, high) for low, high in zip(begin, end))])

    def _from_port(self, port: ConstOutput, array: np.ndarray | None = None) -> None:
        if array is None:
            self._from_type(port.element_type, port.partial_shape.get_min_shape())
            return
        self._from_array(array, shared_memory=True)
        if self._type is not port.element_type or not port.partial_shape.compatible(self.shape):
            raise InvalidArgumentError(f"{self!r} does not fit {port!r}.")

    def _hold(self, array: np.ndarray, shared: bool = True) -> None:
        self._array = array
        self._storage = array.reshape(-1) if array.flags.c_contiguous else None
        self._shared = shared
        self._type = Type(array.dtype)

    @classmethod
    def of_request(cls, array: np.ndarray, resize: Callable[[tuple[int, ...]], np.ndarray] | None) -> Tensor:
        """A tensor on memory of an infer request; `resize` makes the request's memory for another shape."""
        tensor = cls.__new__(cls)
        tensor._hold(array)
        tensor._resize = resize
        return tensor

    def follow(self, array: np.ndarray) -> None:
        """The infer request's memory is this now."""
        self._hold(array)

    @property
    def data(self) -> np.ndarray:
        """A view of the memory, with the tensor's shape; strings are a NumPy array of str objects."""
        return self._array

    @property
    def str_data(self) -> np.ndarray:
        """The strings of a string tensor: a copy, of NumPy's str type. Assigning replaces them, shape and all."""
        return self._strings().astype(np.str_)

    @str_data.setter
    def str_data(self, value: Any) -> None:
        self._strings()
        strings = _decoded(np.asarray(value))
        self.shape = strings.shape
        self._array[...] = strings

    @property
    def bytes_data(self) -> np.ndarray:
        """The strings of a string tensor in UTF-8: a copy, of NumPy's bytes type. Assigning replaces them."""
        return np.char.encode(self.str_data, "utf-8")

    @bytes_data.setter
    def bytes_data(self, value: Any) -> None:
        self.str_data = value

    def _strings(self) -> np.ndarray:
        if self._type is not Type.string:
            raise InvalidArgumentError(f"{self!r} holds no strings; use data.")
        return self._array

    @property
    def shape(self) -> Shape:
        """The shape. Assigning another shape keeps memory that is large enough.

        Memory that is too small is replaced where the tensor owns it; shared memory only shrinks, and grows back.
        """
        return Shape(self._array.shape)

    @shape.setter
    def shape(self, shape: Iterable[int] | str) -> None:
        lengths = tuple(Shape(shape))
        if lengths == self._array.shape:
            return
        if self._resize is not None:
            self._hold(self._resize(lengths))
            return
        if self._storage is None:
            raise InvalidArgumentError("A tensor that is a part of another cannot change its shape.")
        size = prod(lengths)
        if size > self._storage.size:
            if self._shared:
                raise InvalidArgumentError(
                    f"Shape {list(lengths)} has {size} elements; this tensor's shared memory has {self._storage.size}."
                )
            self._hold(aligned_zeros(lengths, self._storage.dtype), shared=False)
            return
        self._array = self._storage[:size].reshape(lengths)

    @property
    def element_type(self) -> Type:
        """The type of the elements."""
        return self._type

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def byte_size(self) -> int:
        """The number of bytes of the elements."""
        return self._array.size * self._type.size

    @property
    def strides(self) -> tuple[int, ...]:
        """The bytes from one element to the next in each dimension."""
        return self._array.strides

    def is_continuous(self) -> bool:
        """Whether the elements follow each other in memory without gaps."""
        return self._array.flags.c_contiguous

    def get_shape(self) -> Shape:
        """The same as `shape`."""
        return self.shape

    def set_shape(self, shape: Iterable[int] | str) -> None:
        """The same as assigning `shape`."""
        self.shape = shape  # type: ignore[assignment]

    def get_element_type(self) -> Type:
        """The same as `element_type`."""
        return self._type

    def get_size(self) -> int:
        """The same as `size`."""
        return self.size

    def get_byte_size(self) -> int:
        """The same as `byte_size`."""
        return self.byte_size

    def get_strides(self) -> tuple[int, ...]:
        """The same as `strides`."""
        return self.strides

    def copy_to(self, target_tensor: Tensor) -> None:
        """Copy the elements to another tensor of the same type, which takes on this one's shape."""
        _check_tensor(target_tensor)
        target_tensor.copy_from(self)

    def copy_from(self, source_tensor: Tensor) -> None:
        """Take on the shape and elements of another tensor of the same type."""
        _check_tensor(source_tensor)
        if source_tensor._type is not self._type:
            names = source_tensor._type.get_type_name(), self._type.get_type_name()
            raise InvalidArgumentError(f"A tensor of type {names[0]} cannot be copied to one of type {names[1]}.")
        self.shape = source_tensor.shape
        self._array[...] = source_tensor._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<Tensor: shape{self.shape} type: {self._type.get_type_name()}>"


def _check_contiguous(array: np.ndarray) -> None:
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        raise InvalidArgumentError(
            "Memory can be shared only with a C-contiguous NumPy array; use np.ascontiguousarray, or let it be copied."
        )


def _check_tensor(given: Any) -> None:
    if not isinstance(given, Tensor):
        raise InvalidArgumentError(f"A Tensor is needed, not {type(given).__name__}.")


def _decoded(strings: np.ndarray) -> np.ndarray:
    """An array of str objects from one of str or of bytes in UTF-8."""
    if strings.dtype.kind == "S":
        strings = np.char.decode(strings, "utf-8")
    return np.vectorize(lambda s: s.decode() if isinstance(s, bytes) else str(s), otypes=[object])(strings)
