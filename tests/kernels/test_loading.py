"""Object files are loaded without LLVM; damaged ones are refused."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from support.objects import code_that_calls

from cpuruntime.compiler import build, objects
from cpuruntime.ops.movement import copy_transposed
from cpuruntime.streams.native import signals

IN_A_NEW_PROCESS = """
import sys
import numpy as np
from cpuruntime.compiler import build
from cpuruntime.ops.movement import copy_transposed
from cpuruntime.program.plan.packing import copy_into
target = np.zeros((3, 5), np.float32)
copy_into(target, np.arange(15, dtype=np.float32).reshape(5, 3).T)
assert target[1, 2] == 7, target
print(build.loaded_kernels()[0], [name for name in ("llvmlite", "numba", "email") if name in sys.modules])
"""


def test_compiled_kernels_run_without_llvm() -> None:
    assert copy_transposed.address
    command = [sys.executable, "-c", IN_A_NEW_PROCESS]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0 []\n"


def test_code_calls_the_c_library() -> None:
    address = objects.load(signals.notify.code(), signals.notify.symbol)
    line = np.zeros(64, np.int32)
    build.PROTOTYPE(address)(line.ctypes.data, 0, 0)  # a signal that nobody waits for
    build.PROTOTYPE(objects.load(code_that_calls("sched_getcpu"), "kernel"))(0, 0, 0)
    assert ctypes.CDLL(None).sched_getcpu() >= 0


@pytest.mark.parametrize(
    ("code", "entry", "message"),
    [
        (code_that_calls("sched_getcpu"), "another", "no entry another"),
        (code_that_calls("abort"), "kernel", "it calls abort"),
        (code_that_calls("memcpy")[:300], "kernel", "damaged"),
        (b"MZ" + bytes(100), "kernel", "no ELF file"),
    ],
)
def test_other_code_is_refused(code: bytes, entry: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objects.load(code, entry)


def test_damaged_code_is_refused_or_loaded_whole() -> None:
    """Bytes of the tables are changed; nothing is run."""
    code, draw = signals.notify.code(), random.Random(1)
    tables = struct.unpack_from("<Q", code, 40)[0]
    for _ in range(400):
        damaged = bytearray(code)
        for _ in range(3):
            damaged[draw.choice([draw.randrange(64), draw.randrange(tables, len(code))])] = draw.randrange(256)
        try:
            assert objects.load(bytes(damaged), signals.notify.symbol)
        except ValueError:
            continue
