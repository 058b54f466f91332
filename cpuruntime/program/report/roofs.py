"""The machine's roofs: multiply-adds of one core, and reading from each level of memory."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from functools import cached_property

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.host.memory import allocate
from cpuruntime.ops.roofs import CHAINS, STREAM, multiply_add, multiply_pairs, read_memory
from cpuruntime.program.plan.packing import argument_block

PEAK_ROUNDS = 100_000
LARGEST = 2**28  # bytes: more than any cache holds
READ_BYTES = 100e6  # read by one measurement of a bandwidth, at least


def seconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    begin = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin) * 1e-9


class FmaPeak:
    """Measures the multiply-add peak of the core it is called on; each measurement takes a few milliseconds.

    Args:
        pairs: whether bf16 numbers are multiplied, two in each lane, instead of float32.
    """

    def __init__(self, pairs: bool = False) -> None:
        self._kernel, self._products = (multiply_pairs, 2 * LANES) if pairs else (multiply_add, LANES)
        self._target = np.zeros(LANES, np.float32)
        self._block = argument_block(self._kernel, rounds=PEAK_ROUNDS, target=self._target.ctypes.data)
        self.measured: list[float] = []
        self._kernel(self._block)

    def measure(self, times: int = 3) -> float:
        """Operations per second, the median of `times`; remembered in `measured`."""
        duration = statistics.median(seconds(lambda: self._kernel(self._block)) for _ in range(times))
        self.measured.append(2 * self._products * CHAINS * PEAK_ROUNDS / duration)
        return self.measured[-1]


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
        block = argument_block(read_memory, size=size, repeats=repeats, **addresses)
        owners = (self._memory, target)
        self._read(block, threads, owners)
        return size * repeats / statistics.median(self._read(block, threads, owners) for _ in range(times))

    @staticmethod
    def _read(block: np.ndarray, threads: int, owners: object) -> float:
        """Processor seconds of the slowest of the threads, which begin when all of them are ready.

        The threads keep the `owners` of the memory: an interrupt ends the wait for them.
        """
        ready = threading.Barrier(threads)
        durations = [0.0] * threads

        def share(thread: int, owners: object) -> None:
            ready.wait()
            begin = time.thread_time_ns()
            read_memory.entry(block.ctypes.data, thread, threads)
            durations[thread] = (time.thread_time_ns() - begin) * 1e-9

        others = [threading.Thread(target=share, args=(thread, owners)) for thread in range(1, threads)]
        try:
            for other in others:
                other.start()
            share(0, owners)
        except BaseException:
            ready.abort()
            raise
        for other in others:
            other.join()
        return max(durations)


class Roofs:
    """What `threads` threads can do at most: measured when it is asked for, once."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._read = ReadRoof()
        self._bandwidths: dict[int, float] = {}

    @cached_property
    def peak(self) -> float:
        """float32 operations per second."""
        return self._threads * FmaPeak().measure()

    def bandwidth(self, size: int) -> float:
        """Bytes per second, read again and again from a working set of about `size` bytes."""
        rounded = 1 << max(size - 1, 2**14).bit_length()
        if rounded not in self._bandwidths:
            self._bandwidths[rounded] = self._read.measure(min(rounded, LARGEST), self._threads, times=3)
        return self._bandwidths[rounded]

    def least_seconds(self, flops: int, constants: int, tensors: int, packed: int) -> float:
        """The least seconds of a step: its operations or its memory traffic, whichever takes longer, at their roof.

        It reads so many bytes of constants and touches so many of tensors. `packed` is the size of all constants of the
        model, which are read once in an inference.
        """
        traffic = (constants, packed), (tensors, tensors)  # bytes, and the working set that they are part of
        memory = sum(size / self.bandwidth(near) for size, near in traffic if size)
        return max(flops / self.peak, memory)
