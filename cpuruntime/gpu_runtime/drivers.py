"""The devices of all drivers: the one place that names runtimes. None is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING

from cpuruntime.host import forks

if TYPE_CHECKING:
    from cpuruntime.gpu_runtime.interface import GpuRuntime

RUNTIMES = {"pyopencl": "cpuruntime.gpu_runtime.opencl"}
"""The module of each runtime, by the package that it needs."""

_lock = Lock()
_found: list[GpuRuntime] | None = None
_left_out: list[str] = []
_generation = 0


def has_hardware() -> bool:
    """Whether the machine has a graphics processor, by its device files: to ask drivers takes longer."""
    return any(glob(pattern) for pattern in ("/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/dxg"))


def reason() -> str | None:
    """Why there is no device; None where there is one."""
    if _found is None and not any(find_spec(package) for package in RUNTIMES):
        return (
            "package pyopencl is not installed. `pip install cpuruntime[gpu]` brings it; "
            "`pip install cpuruntime[gpu-cpu]` also a driver that runs on the processor."
        )
    if _found is not None and _generation != forks.generation:
        return "the process was forked from one that uses drivers, which do not survive that. Start it with 'spawn'."
    if not devices():
        return " ".join(_left_out) or (
            "no OpenCL driver has a device here. Install your GPU's driver, or package pocl-binary-distribution, "
            "which runs on the processor."
        )
    return None


def devices() -> list[GpuRuntime]:
    """All devices that can be used, graphics processors first; the same objects each time. Thread-safe."""
    global _found, _generation
    with _lock:
        if _found is None:
            modules = [importlib.import_module(module) for package, module in RUNTIMES.items() if find_spec(package)]
            _found = [runtime for module in modules for runtime in module.devices()]
            _left_out[:] = [sentence for module in modules for sentence in module.left_out]
            _generation = forks.generation
        return _found


@contextmanager
def replaced(runtimes: list[GpuRuntime] | None) -> Iterator[None]:
    """In the `with` these are the devices, in place of those of drivers; None looks for those. For tests."""
    global _found, _generation
    before = _found, _generation
    _found, _generation = runtimes, forks.generation
    try:
        yield
    finally:
        _found, _generation = before
