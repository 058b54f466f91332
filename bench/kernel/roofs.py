"""The machine's roofs: multiply-adds of one core, and reading from each level of memory."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

from cpuruntime.ops.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.jit import Kernel, kernel, lazy, record
from cpuruntime.program.weights import allocate

register_tile = lazy("register_tile")
simd = lazy("simd")

CHAINS = 12  # independent multiply-adds in a round of fma_chain
PEAK_ROUNDS = 100_000
READ_BYTES = 100e6  # read by one measurement of a bandwidth, at least
STREAM = 8 * VECTOR_BYTES


@kernel(record(rounds="i8", target="i8"))
def multiply_add(a, thread, threads):
    """Nothing but multiply-adds in registers."""
    simd.store(a.target, register_tile.fma_chain(a.rounds))


@kernel(record(source="i8", size="i8", repeats="i8", target="i8"))
def read_memory(a, thread, threads):
    """Sums this thread's share of `size` bytes, a multiple of STREAM, into one vector, `repeats` times."""
    streams = a.size // STREAM
    begin = a.source + streams * thread // threads * STREAM
    end = a.source + streams * (thread + 1) // threads * STREAM
    v = simd.broadcast(0.0)
    s, t, u, w, x, y, z = v, v, v, v, v, v, v
    for _ in range(a.repeats):
        for p in range(begin, end, STREAM):
            s = s + simd.load(p)
            t = t + simd.load(p + VECTOR_BYTES)
            u = u + simd.load(p + 2 * VECTOR_BYTES)
            v = v + simd.load(p + 3 * VECTOR_BYTES)
            w = w + simd.load(p + 4 * VECTOR_BYTES)
            x = x + simd.load(p + 5 * VECTOR_BYTES)
            y = y + simd.load(p + 6 * VECTOR_BYTES)
            z = z + simd.load(p + 7 * VECTOR_BYTES)
    simd.store(a.target + thread * VECTOR_BYTES, s + t + u + v + w + x + y + z)


def seconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    begin = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin) * 1e-9


def _block(item: Kernel, **fields: int) -> np.ndarray:
    block = np.zeros((), item.arguments)
    for name, value in fields.items():
        block[name] = value
    return block


class FmaPeak:
    """Measures the multiply-add peak of the core it is called on; each measurement takes a few milliseconds."""

    def __init__(self) -> None:
        self._target = np.zeros(LANES, np.float32)
        self._block = _block(multiply_add, rounds=PEAK_ROUNDS, target=self._target.ctypes.data)
        self.measured: list[float] = []
        multiply_add(self._block)

    def measure(self, times: int = 3) -> float:
        """float32 operations per second, the median of `times`; remembered in `measured`."""
        duration = statistics.median(seconds(lambda: multiply_add(self._block)) for _ in range(times))
        self.measured.append(2 * LANES * CHAINS * PEAK_ROUNDS / duration)
        return self.measured[-1]

    @property
    def best(self) -> float:
        """The highest peak measured so far."""
        return max(self.measured)


class ReadRoof:
    """Measures how fast memory of a given size can be read again and again."""

    def __init__(self) -> None:
        self._memory = allocate(0)

    def measure(self, size: int, threads: int = 1, times: int = 5) -> float:
        """Bytes per second for a working set of `size` bytes that `threads` threads share; the median of `times`."""
        size = max(size // STREAM, threads) * STREAM
        if self._memory.size < size:
            self._memory = allocate(size)
            self._memory.fill(0)
        repeats = max(1, round(READ_BYTES / size))
        target = np.zeros(threads * LANES, np.float32)
        addresses = {"source": self._memory.ctypes.data, "target": target.ctypes.data}
        block = _block(read_memory, size=size, repeats=repeats, **addresses)
        self._read(block, threads)
        return size * repeats / statistics.median(self._read(block, threads) for _ in range(times))

    @staticmethod
    def _read(block: np.ndarray, threads: int) -> float:
        """Seconds until the last of the threads is done, from when all of them are ready."""
        ready = threading.Barrier(threads)
        durations = [0.0] * threads

        def share(thread: int) -> None:
            ready.wait()
            durations[thread] = seconds(lambda: read_memory.entry(block.ctypes.data, thread, threads))

        others = [threading.Thread(target=share, args=(thread,)) for thread in range(1, threads)]
        for other in others:
            other.start()
        share(0)
        for other in others:
            other.join()
        return max(durations)
