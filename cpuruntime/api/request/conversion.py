"""What users pass as inputs, made into arrays that fit a port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Kind, PartialShape, Type

_PLAIN = (bool, int, float, str, bytes, np.generic, list, tuple)


def pairs(inputs: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """The keys (None: the only input) and values in `inputs`, for a model with `count` inputs.

    A mapping gives its items. A list or tuple gives its elements by position, unless the model has one input and the
    list holds numbers or lists rather than arrays: then it is that input's value. Anything else is the only input's.
    """
    if isinstance(inputs, Mapping):
        yield from inputs.items()
    elif isinstance(inputs, (list, tuple)) and not (count == 1 and _is_value(inputs)):
        if len(inputs) > count:
            raise InvalidArgumentError(f"{len(inputs)} inputs given; the model has {count}.")
        yield from enumerate(inputs)
    else:
        yield None, inputs


def _is_value(inputs: list[Any] | tuple[Any, ...]) -> bool:
    return bool(inputs) and all(isinstance(element, _PLAIN) for element in inputs)


def to_array(value: Any, port: PortInfo) -> np.ndarray:
    """An array of the port's dtype, of any shape and layout.

    Arrays (and objects that convert to one, such as torch tensors) must have the dtype already. Python's and NumPy's
    scalars, and lists of them, are converted where no integer changes and no fraction is cut off.

    Raises:
        InvalidArgumentError: the value is no array, or has the wrong type.
    """
    if port.kind is not Kind.TENSOR:
        return _held(value, port)
    dtype = port.element_type.to_dtype()
    if value is None:
        raise InvalidArgumentError(f"Input '{printable(port.name)}': no value given (None).")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(
            f"Input '{printable(port.name)}': {type(value).__name__} is no array: {error}."
        ) from error
    if port.element_type is Type.string and array.dtype.kind in "SUO":
        return Tensor(array).data
    if array.dtype == dtype:
        return array
    if not isinstance(value, _PLAIN):
        raise InvalidArgumentError(
            f"Input '{printable(port.name)}': dtype {array.dtype} given, {dtype} "
            f"({port.element_type.get_type_name()}) needed; "
            f"convert it, as with array.astype('{dtype}')."
        )
    return _converted(array, dtype, port)


def _held(value: Any, port: PortInfo) -> np.ndarray:
    """A sequence or optional as an array of objects, with tensors of its own."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.item() if port.kind is not Kind.SEQUENCE and not value.ndim else list(value)
    if port.kind is Kind.SEQUENCE and not isinstance(value, (list, tuple)):
        raise InvalidArgumentError(f"Input '{printable(port.name)}': a list of arrays is needed, not {type(value)}.")
    item = PortInfo(port.name, port.element_type, PartialShape.dynamic())
    if isinstance(value, (list, tuple)) and port.kind is not Kind.OPTIONAL:
        tensors = [to_array(element, item).copy() for element in value]
    else:
        tensors = None if value is None else to_array(value, item).copy()
    array = np.empty(len(tensors) if port.kind is Kind.SEQUENCE else (), object)
    if port.kind is Kind.SEQUENCE:
        for index, tensor in enumerate(tensors):
            array[index] = tensor
    else:
        array[()] = tensors
    return array


def _converted(array: np.ndarray, dtype: np.dtype, port: PortInfo) -> np.ndarray:
    number = array.dtype.kind in "biuf" and port.element_type is not Type.string
    if number:
        with np.errstate(all="ignore"):
            converted = array.astype(dtype)
            exact = port.element_type.real or bool(np.all(converted == array))
        if exact and (array.dtype.kind != "f" or port.element_type.real):
            return converted
    raise InvalidArgumentError(
        f"Input '{printable(port.name)}': values of type {array.dtype} do not fit {dtype} "
        f"({port.element_type.get_type_name()})."
    )


def check_shape(shape: tuple[int, ...], port: PortInfo, side: str = "Input") -> None:
    """Raise InvalidArgumentError unless the port takes `shape`."""
    if not port.partial_shape.compatible(shape):
        remedy = "" if port.partial_shape.is_dynamic else " To use other shapes, reshape the model before compiling it."
        given = "[" + ",".join(map(str, shape)) + "]"
        raise InvalidArgumentError(
            f"{side} '{printable(port.name)}': shape {given} given, {port.partial_shape} needed.{remedy}"
        )
