"""Compiles kernels of the dialect for NVIDIA's GPUs, by the package nvidia-cuda-nvrtc, which needs no GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cpuruntime.devices.gpu.lower import prelude
from cpuruntime.gpu_runtime.interface import KernelSource


@dataclass(frozen=True)
class Limits:
    """The most that a kernel may take."""

    registers: int = 96
    shared: int = 16 * 1024


@dataclass(frozen=True)
class Compiled:
    """What the compiler says: registers of a work item, bytes of shared memory and of spills; or its log of errors."""

    registers: int
    shared: int
    spills: int
    log: str

    def problem(self, limits: Limits) -> str:
        """What is wrong; "" for nothing."""
        if self.log:
            return self.log
        fits = self.registers <= limits.registers and self.shared <= limits.shared and not self.spills
        return "" if fits else f"{self.registers} registers, {self.shared} bytes shared, {self.spills} bytes of spills"


def folder() -> Path | None:
    """Where NVIDIA's packages lie; None without them."""
    found = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    return next((place for place in places if list(place.rglob("libnvrtc.so*"))), None)


@cache
def _library() -> ctypes.CDLL:
    place = folder()
    assert place is not None
    return ctypes.CDLL(str(next(place.rglob("libnvrtc.so*"))))


def _headers() -> Path:
    """Where the header of 16-bit floats lies: in NVIDIA's packages, or in Numba's."""
    numba = importlib.util.find_spec("numba")
    places = [folder() or Path(), *map(Path, (numba and numba.submodule_search_locations) or ())]
    return next(path.parent for place in places for path in place.rglob("cuda_fp16.h"))


def compiled(kernel: KernelSource, architecture: str) -> Compiled:
    """A kernel compiled for an architecture such as sm_90."""
    nvrtc, program = _library(), ctypes.c_void_p()
    text = prelude("cuda") + kernel.text
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    options = [f"--gpu-architecture={architecture}", "--ptxas-options=-v", f"--include-path={_headers()}"]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, buffer)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    log = buffer.value.decode(errors="replace")

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, log))

    return Compiled(
        number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), number(r"(\d+) bytes spill stores"),
        log if status else "",
    )  # fmt: skip
