"""Tensors of other libraries by the DLPack protocol."""

from __future__ import annotations

import ctypes
from typing import Any

OPENCL = 4
"""DLPack's number of the kind of device whose `data` is a cl_mem."""


class Tensor(ctypes.Structure):
    """DLPack's description of a tensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


def memory_of(foreign: Any) -> tuple[int, int, Any] | None:
    """The handle of the OpenCL memory of a tensor, where in it the tensor begins, and what keeps it alive.

    None where it lies elsewhere, or is not C-contiguous.
    """
    if foreign.__dlpack_device__()[0] != OPENCL:
        return None
    capsule = foreign.__dlpack__()
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = Tensor.from_address(get(capsule, b"dltensor"))
    extents = tensor.shape[: tensor.ndim]
    if tensor.strides:
        step = 1
        for extent, stride in zip(reversed(extents), reversed(tensor.strides[: tensor.ndim])):
            if extent > 1 and stride != step:
                return None
            step *= extent
    return tensor.data, tensor.offset, (capsule, foreign)
