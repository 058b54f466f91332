"""What the other modules need of pyopencl and the driver: functions by address, and errors for its numbers."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from functools import cache
from threading import Lock

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


class _WithoutRemarks:
    """In the `with` no remarks of compilers are warnings, in several threads at a time: Intel's has some on any kernel.

    Filters of warnings are those of all threads, so that the last thread takes them back.
    """

    def __init__(self) -> None:
        self._lock, self._count = Lock(), 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore", cl.CompilerWarning)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._before.__exit__()


without_remarks = _WithoutRemarks()


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
