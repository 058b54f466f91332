"""What tests of streams share: small kernels, programs of them, a task that runs a program."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel, kernel, lazy, record
from cpuruntime.streams.base import Executor
from cpuruntime.streams.job import Job
from cpuruntime.streams.native import runner
from cpuruntime.streams.task import Stream, Task

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")


def stream_threads(prefix: str = "cpurt-s") -> list[str]:
    """The names of all threads of streams, as the system shows them."""
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(name for name in names if name.startswith(prefix))


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another thread does at once."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@kernel(record(target="i8"))
def where_am_i(a, thread, threads):
    """target[thread] = the CPU this share runs on."""
    simd.store_i64(a.target + 8 * thread, system.current_cpu())


@kernel(record(source="i8", target="i8", count="i8"))
def neighbours(a, thread, threads):
    """target[i] = source[i] + source[i + 1] + 1, cyclic: every share reads what another thread wrote."""
    for i in range(a.count * thread // threads, a.count * (thread + 1) // threads):
        following = simd.load_i64(a.source + 8 * ((i + 1) % a.count))
        simd.store_i64(a.target + 8 * i, simd.load_i64(a.source + 8 * i) + following + 1)


@kernel(record(nanoseconds="i8", turned="i8"))
def delay(a, thread, threads):
    """Keeps every thread busy for so long; adds 1 to the word at `turned` (if any) as it begins."""
    if a.turned:
        system.fetch_add(a.turned, 1)
    start = system.now()
    while system.now() - start < a.nanoseconds:
        system.pause()


def program(
    steps: list[tuple[Kernel, tuple[Any, ...]]], keep: object = None, alone: Callable[[int], bool] = lambda i: False
) -> Job:
    """A job of these steps, those that are `alone` for thread 0 only; `keep` owns what their arguments point to."""
    blocks = [np.array([values], item.arguments) for item, values in steps]
    places = [block.ctypes.data + runner.ALONE * alone(i) for i, block in enumerate(blocks)]
    table = [(item.address, place) for (item, _), place in zip(steps, places)]
    return Job(np.array(table, np.int64), (blocks, keep))


class Neighbours:
    """`steps` alternating steps over `count` numbers, and what they must give."""

    def __init__(self, count: int, steps: int, alone: Callable[[int], bool] = lambda i: False):
        self.numbers = np.zeros((2, count), np.int64)
        a, b = (row.ctypes.data for row in self.numbers)
        sides = [(a, b, count), (b, a, count)]
        self.job = program([(neighbours, sides[i % 2]) for i in range(steps)], self.numbers, alone)
        self._steps = steps

    def fill(self, seed: int) -> np.ndarray:
        """Sets the input; returns the right output."""
        self.numbers[0] = np.arange(self.numbers.shape[1]) * 7 + seed
        values = self.numbers[0].copy()
        for _ in range(self._steps):
            values = values + np.roll(values, -1) + 1
        return values

    @property
    def result(self) -> np.ndarray:
        return self.numbers[self._steps % 2]


class Delay:
    """A job of `steps` steps of so many milliseconds each; `begun` counts the steps begun."""

    def __init__(self, milliseconds: float, steps: int = 1, alone: Callable[[int], bool] = lambda i: False):
        self._turned = np.zeros(1, np.int32)
        values = (int(milliseconds * 1e6), self._turned.ctypes.data)
        self.job = program([(delay, values)] * steps, self._turned, alone)

    @property
    def begun(self) -> int:
        return int(self._turned[0])


class Noted(Task):
    """A task of which `errors` has what it ended with each time, through the interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException | None] = []
        self._called = threading.Semaphore(0)

    def conclude(self, error: BaseException | None) -> BaseException | None:
        self.errors.append(error)
        return error

    def start(self, executor: Executor, after: Callable[[], object] | None = None) -> None:
        """Submits it, and has `after` called when it is over."""
        executor.submit(self, lambda: self._call(after))

    def _call(self, after: Callable[[], object] | None) -> None:
        if after is not None:
            after()
        self._called.release()

    def wait_called(self) -> bool:
        """Waits until `after` has returned, once for each start."""
        return self._called.acquire(timeout=30)


class Run(Noted):
    """Runs one job."""

    def __init__(self, job: Job):
        super().__init__()
        self.job = job
        self.streams: list[int] = []

    def begin(self, stream: Stream) -> Job | None:
        self.streams.append(stream.index)
        return self.job

    def resume(self, stream: Stream) -> Job | None:
        return None


class Whole(Run):
    """Runs one job, over without the interpreter if a stream is idle."""

    whole = True


class Call(Noted):
    """Calls a function with the stream, on the stream's thread."""

    def __init__(self, function: Callable[[Stream], None]):
        super().__init__()
        self.function = function

    def begin(self, stream: Stream) -> Job | None:
        return None

    def resume(self, stream: Stream) -> Job | None:
        self.function(stream)
        return None


class Gate:
    """A task that keeps its stream until the gate is opened."""

    def __init__(self, executor: Executor):
        self._open = threading.Event()
        self.entered = threading.Event()
        self.task = Call(self._pass)
        executor.submit(self.task)
        assert self.entered.wait(30)

    def _pass(self, stream: Stream) -> None:
        self.entered.set()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()
