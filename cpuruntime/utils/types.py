"""Element types and NumPy's, by OpenVINO's names of functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.graph import Type


def get_element_type(data_type: Any) -> Type:
    """The element type of a NumPy or Python type; of int i32, of float f32. WrongTypeError where there is none."""
    return {int: Type.i32, float: Type.f32}.get(data_type) or Type(data_type)


def get_element_type_str(data_type: Any) -> str:
    """The name of `get_element_type`, as "f32"."""
    return get_element_type(data_type).type_name


def get_dtype(openvino_type: Any) -> np.dtype:
    """The NumPy type of an element type: that of text for strings. WrongTypeError where there is none."""
    element_type = Type(openvino_type)
    return np.dtype(str) if element_type is Type.string else element_type.to_dtype()


def get_numpy_ctype(openvino_type: Any) -> type:
    """The class of `get_dtype`'s scalars."""
    return get_dtype(openvino_type).type


def get_ndarray(data: Any) -> np.ndarray:
    """An array of a number or list; an array as it is."""
    return data if isinstance(data, np.ndarray) else np.array(data)


def get_shape(data: Any) -> list[int]:
    """The shape of an array; the length of a list; [] for a number."""
    if isinstance(data, np.ndarray):
        return list(data.shape)
    return [len(data)] if isinstance(data, list) else []
