"""What users pass as inputs, made into arrays that fit a port."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, WrongTypeError, printable
from cpuruntime.graph import Kind, PartialShape, Type

_PLAIN = (bool, int, float, str, bytes, np.generic, list, tuple)

log = logging.getLogger("cpuruntime")


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
        if not isinstance(inputs, (np.ndarray, Tensor, *_PLAIN)) and not hasattr(inputs, "__array__"):
            raise WrongTypeError(f"Incompatible inputs of type: {type(inputs)}; give arrays, in a dict or list.")
        yield None, inputs


def _is_value(inputs: list[Any] | tuple[Any, ...]) -> bool:
    return bool(inputs) and all(isinstance(element, _PLAIN) for element in inputs)


def to_array(value: Any, port: PortInfo) -> np.ndarray:
    """An array of the port's dtype, of any shape and layout.

    Arrays of another dtype are converted, and so are numbers, lists, and objects that convert to an array, such as
    torch tensors. For an integer port fractions are cut off, which is logged once for each port.

    Raises:
        InvalidArgumentError: an element is beyond the range of an integer port, or no number.
        WrongTypeError: the value is no array.
    """
    if port.kind is not Kind.TENSOR:
        return _held(value, port)
    dtype = port.element_type.to_dtype()
    if value is None:
        raise WrongTypeError(f"Input '{printable(port.name)}': no value given (None).")
    if not isinstance(value, (np.ndarray, *_PLAIN)) and not hasattr(value, "__array__"):
        raise WrongTypeError(f"Input '{printable(port.name)}': {type(value).__name__} is no array.")
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
    try:
        if array.dtype.kind in "SUO":
            array = np.array(array.tolist()) if array.dtype.kind == "O" else array.astype(np.float64)
        if array.dtype.kind in "cO" or port.element_type is Type.string:
            raise TypeError
        with np.errstate(all="ignore"):
            converted = array.astype(dtype)
            if not port.element_type.is_integral_number() or np.array_equal(converted, array):
                return converted
            whole = np.trunc(array)
            if array.dtype.kind in "iu" or not np.array_equal(converted, whole):
                raise OverflowError
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(
            f"Input '{printable(port.name)}': values of type {array.dtype} do not fit {dtype} "
            f"({port.element_type.get_type_name()})."
        ) from None
    _warn_of_fractions(port.name, array.dtype, dtype)
    return converted


@functools.lru_cache(maxsize=100)
def _warn_of_fractions(name: str, given: np.dtype, dtype: np.dtype) -> None:
    """Log, once for each input's name and types, that fractions are cut off."""
    log.warning("Input '%s': fractions of %s values are cut off for %s", printable(name), given, dtype)


def shape_before_data(port: PortInfo) -> list[int]:
    """What the tensor of a port of dynamic shape has before it is given data, as in OpenVINO: 0 where not known.

    No user means such a shape, so that assigning any other is noticed.
    """
    if port.partial_shape.rank.is_dynamic:
        return [0]
    return [extent.get_length() if extent.is_static else 0 for extent in port.partial_shape]


def check_shape(shape: tuple[int, ...], port: PortInfo, side: str = "Input") -> None:
    """Raise InvalidArgumentError unless the port takes `shape`."""
    if not port.partial_shape.contains(shape):
        remedy = "" if port.partial_shape.is_dynamic else " To use other shapes, reshape the model before compiling it."
        given = "[" + ",".join(map(str, shape)) + "]"
        raise InvalidArgumentError(
            f"{side} '{printable(port.name)}': shape {given} given, {port.partial_shape} needed.{remedy}"
        )
