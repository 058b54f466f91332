"""A kernel that reads back indices which it wrote to memory that other threads overwrite, as TopK did at 53c12cb."""

from __future__ import annotations

import sys
import time

import numpy as np
from support.guard_pages import say
from support.kernels import block
from support.overwriting import start_writers

from cpuruntime.compiler.kernel import kernel, lazy, record

shuffle = lazy("cpuruntime.compiler.shuffle")
simd = lazy("cpuruntime.compiler.simd")


@kernel(record("source indices target count"))
def follow(a, thread, threads):
    for n in range(a.count):
        simd.store_i64(a.indices + 8 * n, n)
    for n in range(a.count):
        shuffle.copy4(a.source + 4 * simd.load_i64(a.indices + 8 * n), a.target + 4 * n)


if __name__ == "__main__":
    source, indices, target = np.zeros(8192, np.float32), np.zeros(8192, np.int64), np.zeros(8192, np.float32)
    addresses = {"source": source.ctypes.data, "indices": indices.ctypes.data, "target": target.ctypes.data}
    arguments = block(follow, count=source.size, **addresses)
    sys.setswitchinterval(1e-5)
    stop = start_writers([indices])
    say("following")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        follow(arguments)
    stop()
    say("nothing was seen")
