"""What the other modules need of pyopencl and the driver: functions by address, and errors for its numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import pyopencl as cl

from cpuruntime.errors import DeviceUnavailableError, OutOfMemoryError
from cpuruntime.gpu_runtime.end import End, callback

_STATUS, _COMPLETE = 0x11D3, 0
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


def listen(end: End, event: int, is_over: Callable[[], None] | None = None) -> None:
    """Let `end` hear of an event, which is released then; `is_over` is called where it ended well."""
    status, driver = ctypes.c_int32(), library()

    def ask() -> int | None:
        error = driver.clGetEventInfo(ctypes.c_void_p(event), _STATUS, 4, ctypes.byref(status), None)
        found = error or status.value
        if found > 0:
            return None
        if is_over is not None and found == 0:
            is_over()
        driver.clReleaseEvent(ctypes.c_void_p(event))
        return found

    end.begin(ask)
    driver.clSetEventCallback(
        ctypes.c_void_p(event), _COMPLETE, ctypes.c_void_p(callback()), ctypes.c_void_p(end.address)
    )
