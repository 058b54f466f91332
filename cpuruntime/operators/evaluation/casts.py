"""Casts between all element types."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, is_float, wide

_NARROW = ("f8e4m3", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz")
_ALWAYS_SATURATE = ("f4e2m1", "f6e2m3", "f6e3m2")


def cast(array: np.ndarray, to: Type, saturate: bool = True, round_mode: str = "up") -> np.ndarray:
    """The numbers as another type. `saturate` and `round_mode` are those of Cast, for types of 8 bits."""
    wanted = to.to_dtype()
    if array.dtype == wanted:
        return array
    if array.dtype.kind in "OSU":
        return _partly_known(array, wanted) if None in array.reshape(-1).tolist() else _parsed(array, to)
    if to is Type.string:
        return _printed(array)
    x = wide(array)
    if to is Type.f8e8m0:
        return onnx.numpy_helper.to_float8e8m0(x, saturate, round_mode).astype(wanted)
    name = to.get_type_name()
    if name in _ALWAYS_SATURATE or (saturate and name in _NARROW):
        most = float(ml_dtypes.finfo(wanted).max)
        return np.clip(x.astype(np.float32), -most, most).astype(wanted)
    if to.is_integral_number() and to.bitwidth < 8:
        whole = x.astype(np.int64)
        return (whole.astype(np.uint8) & ((1 << to.bitwidth) - 1)).astype(np.uint8).view(np.int8).astype(wanted)
    if to is Type.boolean:
        return x != 0
    if x.dtype.kind in "iub" and x.dtype.itemsize > 4 and is_float(wanted) and wanted.itemsize < 4:
        x = x.astype(np.float32)
    return x.astype(wanted)


def _partly_known(array: np.ndarray, wanted: np.dtype[Any]) -> np.ndarray:
    """Integers of which some are not known."""
    if wanted not in (np.int32, np.int64):
        raise TypeError("only integers may be unknown")
    return array


def _parsed(array: np.ndarray, to: Type) -> np.ndarray:
    texts = [text.decode() if isinstance(text, bytes) else str(text) for text in array.reshape(-1).tolist()]
    numbers: list[Any]
    if to.is_integral_number():
        numbers = [int(text) if text.strip().lstrip("+-").isdigit() else int(float(text)) for text in texts]
        return cast(np.array(numbers, np.uint64 if to is Type.u64 else np.int64).reshape(array.shape), to)
    return cast(np.array([float(text) for text in texts], np.float64).reshape(array.shape), to)


def _printed(array: np.ndarray) -> np.ndarray:
    texts = [_text(number) for number in array.reshape(-1)]
    result = np.empty(len(texts), object)
    result[:] = texts
    return result.reshape(array.shape)


def _text(number: Any) -> str:
    if isinstance(number, (bool, np.bool_)):
        return "1" if number else "0"
    if not is_float(np.asarray(number).dtype):
        return str(int(number))
    value = float(number)
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "INF" if value > 0 else "-INF"
    return f"{value:.17g}" if np.asarray(number).dtype == np.float64 else f"{value:.9g}"


def _cast(node: Node, arrays: Arrays) -> np.ndarray:
    to = Type.from_onnx(node.attributes["to"])
    return cast(arrays[0], to, bool(attribute(node, "saturate") != 0), attribute(node, "round_mode") or "up")


def _cast_like(node: Node, arrays: Arrays) -> np.ndarray:
    to = Type(arrays[1].dtype)
    return cast(arrays[0], to, bool(attribute(node, "saturate") != 0), attribute(node, "round_mode") or "up")


def _bit_cast(node: Node, arrays: Arrays) -> np.ndarray:
    x, to = arrays[0], Type.from_onnx(node.attributes["to"])
    if Type.string in (to, Type(x.dtype)) or Type(x.dtype).bitwidth != to.bitwidth:
        raise ModelError(f"{node.where}: {x.dtype} and {to.get_type_name()} have other numbers of bits.")
    return np.ascontiguousarray(x).view(to.to_dtype()).reshape(x.shape)


TABLE: dict[str, Rule] = {"BitCast": _bit_cast, "Cast": _cast, "CastLike": _cast_like}
