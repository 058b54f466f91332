"""What the other modules need of pyopencl and the driver: functions by address, and errors for its numbers."""

from __future__ import annotations

import ctypes
from functools import cache

import pyopencl as cl

from cpuruntime.errors import DeviceUnavailableError, OutOfMemoryError

_NO_MEMORY = (-4, -6, -61)  # allocation failed, no memory on the host, no such size


@cache
def library() -> ctypes.CDLL:
    """What pyopencl is linked with: functions are found through its own module."""
    return ctypes.CDLL(cl._cl.__file__)


@cache
def function(name: str) -> int:
    """The address of one of the driver's functions."""
    return ctypes.cast(getattr(library(), name), ctypes.c_void_p).value or 0


def error_of(code: int, what: str) -> Exception:
    """The error for a driver's number."""
    name = cl.status_code.to_string(code, f"error {code}")
    if code in _NO_MEMORY:
        return OutOfMemoryError(f"{what}: {name}. A smaller batch or fewer streams need less memory.")
    return DeviceUnavailableError(f"{what}: {name}.")
