"""Tensors: memory with an element type and a shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from math import prod
from os import PathLike
from typing import Any, overload

import numpy as np

from cpuruntime.api.packing import elements, is_packed, packed_dtype, packed_size
from cpuruntime.api.ports import ConstOutput
from cpuruntime.errors import InvalidArgumentError, UnsupportedError, WrongTypeError
from cpuruntime.graph import Shape, Type
from cpuruntime.host.memory import aligned_zeros

_FORMS = (
    "Tensor(array, shared_memory=False), Tensor(array, shape, type), Tensor(type, shape), "
    "Tensor(other, begin, end), Tensor(port) or Tensor(port, array)"
)


class Tensor:
    """Memory with an element type and a shape; `data` is a NumPy view of it.

    - `Tensor(array, shared_memory=False)`: a copy of an array or list; with True the array's own memory, which must be
      C-contiguous and no strings.
    - `Tensor(array, shape, type=Type.dynamic)`: the array's memory, or its beginning, seen with this shape and type.
    - `Tensor(type, shape)`: new memory, 64-byte aligned, zeros.
    - `Tensor(other, begin, end)`: the part of another tensor from index `begin` to before `end`, its memory shared.
    - `Tensor(port)`, `Tensor(port, array)`: new memory, or the array's own, for a port.

    Of types narrower than a byte the second and third form hold packed bytes, low bits first, and `data` is these.
    Not safe to change from two threads. Arguments that fit none of these raise WrongTypeError.
    """

    __slots__ = ("__weakref__", "_array", "_packed", "_resize", "_shared", "_storage", "_type")

    _array: np.ndarray
    _storage: np.ndarray | None
    _shared: bool
    _resize: Callable[[tuple[int, ...]], np.ndarray] | None
    _type: Type
    _packed: tuple[int, ...] | None

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
        except WrongTypeError:
            raise
        except TypeError as error:
            given = ", ".join([type(a).__name__ for a in args] + [f"{k}={type(v).__name__}" for k, v in kwargs.items()])
            raise WrongTypeError(f"Tensor({given}) is not one of {_FORMS}.") from error

    def _initializer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., None]:
        first = args[0] if args else None
        if isinstance(first, Tensor) or "other" in kwargs:
            return self._from_part
        if isinstance(first, ConstOutput) or "port" in kwargs:
            return self._from_port
        second = args[1] if len(args) > 1 else kwargs.get("shape")
        named = isinstance(first, str) and second is not None
        if named or isinstance(first, (Type, type, np.dtype)) or ("type" in kwargs and "array" not in kwargs):
            return self._from_type
        return self._from_array if second is None or isinstance(second, bool) else self._from_memory

    def _from_array(self, array: Any, shared_memory: bool = False) -> None:
        if array is None:
            raise WrongTypeError("A tensor needs an array or a list, not None.")
        given = np.asarray(array)
        if shared_memory:
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
        lengths, wanted = tuple(Shape(shape)), f"{element_type.get_type_name()}{Shape(shape)}"
        refusal = f"An array of {array.size} {array.dtype} elements cannot be seen as {wanted}."
        if is_packed(element_type) and array.dtype.kind in "iu":
            size = packed_size(prod(lengths), element_type)
            if size > array.nbytes:
                raise InvalidArgumentError(refusal)
            self._hold_packed(array.reshape(-1).view(packed_dtype(element_type))[:size], element_type, lengths)
            return
        try:
            flat = array.reshape(-1).view(element_type.to_dtype())
            self._hold(flat[: prod(lengths)].reshape(lengths))
        except ValueError as error:
            raise InvalidArgumentError(refusal) from error

    def _from_type(self, type: Any, shape: Iterable[int]) -> None:
        self._allocate(Type(type), tuple(Shape(shape)))

    def _allocate(self, element_type: Type, lengths: tuple[int, ...]) -> None:
        """Hold own memory."""
        if is_packed(element_type):
            size = packed_size(prod(lengths), element_type)
            self._hold_packed(aligned_zeros((size,), packed_dtype(element_type)), element_type, lengths, shared=False)
        else:
            self._hold(aligned_zeros(lengths, element_type.to_dtype()), shared=False)

    def _from_part(self, other: Tensor, begin: Sequence[int], end: Sequence[int]) -> None:
        if other._packed is not None:
            raise UnsupportedError(
                f"{other!r}: parts of tensors are not supported for types with bitwidths less then 8 bit."
            )
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
        wanted, element_type = port.partial_shape, port.element_type
        if self._type is not element_type:
            _warn(f"The memory of the {self._type.type_name} array is seen as that of {port!r}.")
            self._from_memory(array, wanted.get_min_shape(), element_type)
        elif wanted.is_static and prod(wanted.to_shape()) < self.size:
            _warn(f"The array has more elements than {port!r}: the first ones are used.")
            self._from_memory(array, wanted.to_shape())
        if not wanted.compatible(self.shape):
            raise InvalidArgumentError(f"Shape of the port exceeds shape of the array. {self!r} does not fit {port!r}.")

    def _hold(self, array: np.ndarray, shared: bool = True) -> None:
        self._array = array
        self._storage = None
        self._shared = shared
        self._type = Type(array.dtype)
        self._packed = None

    def _hold_packed(self, data: np.ndarray, element_type: Type, lengths: tuple[int, ...], shared: bool = True) -> None:
        self._hold(data, shared)
        self._type, self._packed = element_type, lengths

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
        """A view of the memory, with the tensor's shape; strings are a NumPy array of str objects.

        Packed elements are uint8 [bytes], int8 for i4.
        """
        return self._array

    @property
    def elements(self) -> np.ndarray:
        """`data`, but for packed elements a copy with the tensor's shape and an array element each."""
        return self._array if self._packed is None else elements(self._array, self._type, self._packed)

    @property
    def is_packed(self) -> bool:
        """Whether `data` holds packed elements."""
        return self._packed is not None

    @property
    def str_data(self) -> np.ndarray:
        """The strings of a string tensor: a copy, of NumPy's str type. Assigning as many replaces them."""
        return self._strings().astype(np.str_)

    @str_data.setter
    def str_data(self, value: Any) -> None:
        held, strings = self._strings(), _decoded(np.asarray(value))
        if strings.size != held.size:
            raise InvalidArgumentError(
                "Passed array must have the same size (number of elements) as the Tensor! "
                f"{strings.size} strings given for {self!r}, which has {held.size}."
            )
        held[...] = strings.reshape(held.shape)

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
        return Shape(self._array.shape if self._packed is None else self._packed)

    @shape.setter
    def shape(self, shape: Iterable[int] | str) -> None:
        lengths = tuple(Shape(shape))
        if lengths == (self._array.shape if self._packed is None else self._packed):
            return
        if self._resize is not None:
            self._hold(self._resize(lengths))
            return
        if not self._array.flags.c_contiguous:
            raise InvalidArgumentError("A tensor that is a part of another cannot change its shape.")
        storage = self._array.reshape(-1) if self._storage is None else self._storage
        size = prod(lengths) if self._packed is None else packed_size(prod(lengths), self._type)
        if size > storage.size:
            if self._shared:
                raise InvalidArgumentError(
                    f"Setting shape {list(lengths)} failed: it has {size} elements; this tensor's shared memory has "
                    f"{storage.size}."
                )
            self._allocate(self._type, lengths)
            return
        self._storage = storage
        if self._packed is None:
            self._array = storage[:size].reshape(lengths)
        else:
            self._array, self._packed = storage[:size], lengths

    @property
    def element_type(self) -> Type:
        """The type of the elements."""
        return self._type

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size if self._packed is None else prod(self._packed)

    @property
    def byte_size(self) -> int:
        """The number of bytes of the elements."""
        return self._array.size * self._type.size if self._packed is None else self._array.size

    @property
    def strides(self) -> tuple[int, ...]:
        """The bytes from one element to the next in each dimension. UnsupportedError where elements are packed."""
        if self._packed is not None:
            raise UnsupportedError(
                f"Could not get strides for types with bitwidths less then 8 bit. This is {self!r}."
            )
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

    def copy_from(self, source_tensor: Any = None, *, source: Any = None) -> None:
        """Take on the shape and elements of another tensor, an array or a list, of the same type."""
        given = source if source_tensor is None else source_tensor
        if not isinstance(given, (Tensor, np.ndarray, list)):
            raise WrongTypeError(f"A Tensor, an array or a list is needed, not {type(given).__name__}.")
        other = given if isinstance(given, Tensor) else Tensor(given)
        if other._type is not self._type:
            names = other._type.get_type_name(), self._type.get_type_name()
            raise InvalidArgumentError(f"A tensor of type {names[0]} cannot be copied to one of type {names[1]}.")
        self.shape = other.shape
        if self.is_packed == other.is_packed:
            self._array[...] = other._array
        elif self.is_packed:
            raise UnsupportedError(f"Elements of type {self._type.type_name} are not packed here; use pack_data.")
        else:
            self._array[...] = other.elements

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.elements, dtype=dtype, copy=copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._array, self._type, self._packed, self._shared)

    def __repr__(self) -> str:
        return f"<Tensor: shape{self.shape} type: {self._type.get_type_name()}>"


def tensor_from_file(path: str | PathLike[str]) -> Tensor:
    """The bytes of a file: u8 [bytes]. Raises OSError where it cannot be read."""
    return Tensor(np.fromfile(path, np.uint8))


def _restored(array: np.ndarray, element_type: Type, packed: tuple[int, ...] | None, shared: bool) -> Tensor:
    """A copy, or what was pickled; not tied to a request."""
    tensor = Tensor.__new__(Tensor)
    tensor._resize = None
    if packed is None:
        tensor._hold(array, shared)
    else:
        tensor._hold_packed(array, element_type, packed, shared)
    return tensor


def _warn(message: str) -> None:
    """Warn the caller of `Tensor(port, array)`."""
    warnings.warn(message, RuntimeWarning, stacklevel=5)


def _check_contiguous(array: np.ndarray) -> None:
    refusal = "SHARED MEMORY MODE FOR THIS TENSOR IS NOT APPLICABLE!"
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        remedy = "Use np.ascontiguousarray, or let it be copied."
        raise InvalidArgumentError(f"{refusal} Memory is shared only with a C-contiguous NumPy array. {remedy}")
    if array.dtype.kind in "SU":
        raise InvalidArgumentError(f"{refusal} String types can be only copied.")


def _check_tensor(given: Any) -> None:
    if not isinstance(given, Tensor):
        raise WrongTypeError(f"A Tensor is needed, not {type(given).__name__}.")


def _decoded(strings: np.ndarray) -> np.ndarray:
    """An array of str objects from one of str or of bytes in UTF-8; InvalidArgumentError for anything else."""
    if strings.dtype.kind == "S":
        strings = np.char.decode(strings, "utf-8")
    return np.vectorize(_text, otypes=[object])(strings)


def _text(string: Any) -> str:
    if not isinstance(string, (str, bytes)):
        raise InvalidArgumentError(
            f"Unknown string kind passed to fill the Tensor's data! It holds str or bytes, not {type(string).__name__}."
        )
    return string.decode() if isinstance(string, bytes) else str(string)
