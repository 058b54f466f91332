"""Compile workers: kernels are compiled by processes of their own, several at a time, the longest first.

Workers are started when kernels are missing and end when none has been for a while. What a worker fails to compile is
compiled in this process, which is logged.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import NamedTuple

from cpuruntime.compiler import build, isa, target
from cpuruntime.compiler.build import Kernel
from cpuruntime.store import cache_folder, is_environment_trusted, trusted_environment

log = logging.getLogger("cpuruntime")

LIMIT = 120.0
"""Seconds after which a worker that does not answer is killed; arbitrary."""

IDLE = 10.0
"""Seconds that a worker stays without work; arbitrary."""

MEMORY = 384 * 2**20
"""Bytes that a worker takes, about."""

MOST_WORKERS, NICENESS = 16, 10

MOST_FAILURES = 3
"""After as many failures in succession this process starts no workers; arbitrary."""

SECONDS = {"runner": 1.0, "pooling": 0.6, "softmax": 0.6, "attention": 0.6, "recurrent": 0.6}
"""What kernels of a family take, about, where that is not 0.3."""

_COMMAND = """
import json, sys
sys.path[:], level = json.loads(sys.argv[1])
from cpuruntime.compiler import target
target.level = level
from cpuruntime.compiler.worker import main
main()
"""

Progress = Callable[[int, int, float], None]
"""Called with the kernels that are done, those that there are, and about how many seconds are left."""


class WorkerError(Exception):
    """A kernel was not compiled; the text is the predicate of a sentence about its worker."""


class Workforce(NamedTuple):
    """How many workers may run at a time, and on which processors; `memory` gives the bytes that there are for them."""

    workers: int
    cpus: frozenset[int]
    memory: Callable[[], int]


def _silent(done: int, total: int, left: float) -> None:
    pass


def load(kernel: Kernel) -> bool:
    """Loads a kernel; False where it is neither in a pack nor in the cache, or damaged there. Thread-safe."""
    return kernel.is_compiled if target.level is not None else build.find(kernel.symbol) is not None


def compile_all(kernels: Sequence[Kernel], force: Workforce, progress: Progress = _silent) -> None:
    """Loads the kernels, and compiles those that are not in the cache, or damaged. Thread-safe.

    Raises:
        RuntimeError: a kernel calls what none may call.
    """
    missing = [kernel for kernel in dict.fromkeys(kernels) if not load(kernel)]
    jobs = _pool.submit([kernel for kernel in missing if kernel.recipe is not None], force)
    work, begin, rate = {k: _seconds(k) for k in missing}, time.monotonic(), force.workers
    left, pending = sum(work.values()), dict(jobs)
    failures: list[str] = []
    try:
        while True:
            progress(len(missing) - len(pending), len(missing), left / max(rate, 1))
            if not pending:
                break
            done = wait(pending.values(), 0.5, "FIRST_COMPLETED").done
            for kernel in [kernel for kernel, job in pending.items() if job in done]:
                failures += _take(kernel, pending.pop(kernel))
                left -= work[kernel]
                rate = (sum(work.values()) - left) / (time.monotonic() - begin)
    finally:
        for job in pending.values():
            job.cancel()
    if failures:
        log.warning("%d of %d kernels are compiled in this process: %s", len(failures), len(missing), failures[0])
    for kernel in kernels if target.level is not None else missing:
        _ = kernel.address


def _take(kernel: Kernel, job: Future[bytes]) -> list[str]:
    """Loads what a worker compiled; why that failed, if it did."""
    try:
        build.load(kernel, job.result())
        name = build.object_name(kernel.symbol)
        if not cache_folder().has(name):  # the worker could not write it: why is logged here
            cache_folder().publish(name, job.result())
    except CancelledError:  # by another thread that waited for it, too
        return []
    except Exception as error:
        return [f"the compile worker of {kernel.name} {error}"]
    return []


def _seconds(kernel: Kernel) -> float:
    return SECONDS.get(kernel.family, 0.3)


class _Job(NamedTuple):
    rank: tuple[float, int]  # no two jobs have the same
    kernel: Kernel
    future: Future[bytes]


class _Pool:
    """The jobs of this process, and a thread for each worker."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: list[_Job] = []
        self._known: dict[str, Future[bytes]] = {}
        self._numbers = count()
        self._threads = self._failures = 0
        self.workers: set[_Worker] = set()
        self.is_ending = False

    def submit(self, kernels: Sequence[Kernel], force: Workforce) -> list[tuple[Kernel, Future[bytes]]]:
        """A future of the code of each kernel; none where there can be no workers."""
        if not kernels or not _can_start() or self._failures >= MOST_FAILURES:
            return []
        with self._condition:
            for kernel in kernels:
                if kernel.symbol not in self._known:
                    future = self._known[kernel.symbol] = Future()
                    heappush(self._waiting, _Job((-_seconds(kernel), next(self._numbers)), kernel, future))
            threads = min(force.workers, MOST_WORKERS, len(self._waiting), max(1, force.memory() // MEMORY))
            for _ in range(threads - self._threads):
                with suppress(RuntimeError):  # no more threads
                    self._add_thread(force)
            self._condition.notify_all()
            return [(kernel, self._known[kernel.symbol]) for kernel in kernels] if self._threads else []

    def _add_thread(self, force: Workforce) -> None:
        """The caller has the condition."""
        thread = threading.Thread(target=self._serve, args=(force,), name="cpuruntime-compile", daemon=True)
        self._threads += 1
        try:
            thread.start()
        except BaseException:
            if thread.ident is None:
                self._threads -= 1
            raise

    def _serve(self, force: Workforce) -> None:
        """Gives jobs to a worker until there is none for a while."""
        worker = None
        while (job := self._next()) is not None:
            try:
                if worker is None:
                    worker = _Worker(force)
                    self.workers.add(worker)
                code = worker.compile(job.kernel)
            except Exception as error:
                if self.is_ending:
                    return
                if worker is not None:
                    self._dismiss(worker)
                worker = None
                self._end(job, error)
                self._failures += 1
                if self._failures >= MOST_FAILURES:
                    self._give_up(error)
            else:
                self._failures = 0
                self._end(job, code)
        if worker is not None:
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        self.workers.discard(worker)
        worker.kill()

    def _give_up(self, error: Exception) -> None:
        """Ends all that wait: there seems to be no way to run workers."""
        with self._condition:
            jobs, self._waiting = self._waiting, []
        for job in jobs:
            if job.future.set_running_or_notify_cancel():
                self._end(job, error)

    def _next(self) -> _Job | None:
        with self._condition:
            while self._condition.wait_for(lambda: self._waiting, IDLE):
                job = heappop(self._waiting)
                if job.future.set_running_or_notify_cancel():
                    return job
                self._known.pop(job.kernel.symbol, None)
            self._threads -= 1
            return None

    def _end(self, job: _Job, result: bytes | Exception) -> None:
        with self._condition:
            self._known.pop(job.kernel.symbol, None)
        if isinstance(result, bytes):
            job.future.set_result(result)
        else:
            job.future.set_exception(result)


class _Worker:
    """A process that compiles one kernel at a time."""

    def __init__(self, force: Workforce) -> None:
        import subprocess  # not above: models that find their kernels do without

        path = [str(Path(__file__).parents[2]), *sys.path]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _COMMAND, json.dumps([path, target.level])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                start_new_session=True, env={**trusted_environment(), "CPURUNTIME_ISA": isa.current().name},
            )  # fmt: skip
        except OSError as error:
            raise WorkerError(f"could not be started: {error}") from error
        with suppress(OSError, AttributeError):
            os.sched_setaffinity(self._process.pid, force.cpus)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)

    def compile(self, kernel: Kernel) -> bytes:
        """The machine code of a kernel; WorkerError where the worker cannot be used any more, or failed."""
        deadline = time.monotonic() + LIMIT
        try:
            self._stdin.write(json.dumps([kernel.recipe, kernel.symbol]).encode() + b"\n")
        except OSError as error:
            raise WorkerError(self._ended()) from error
        answer = b""
        while b"\n" not in answer:
            answer += self._read(deadline)
        line, _, code = answer.partition(b"\n")
        size, problem = json.loads(line)
        pieces = [code]
        while (size := size - len(pieces[-1])) > 0:
            pieces.append(self._read(deadline))
        if problem:
            raise WorkerError(f"failed: {problem}")
        return b"".join(pieces)

    @property
    def _stdin(self):
        assert self._process.stdin is not None
        return self._process.stdin

    def _read(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise WorkerError(f"did not answer for {LIMIT:g} seconds")
        data = self._process.stdout.read(2**20)
        if not data:
            raise WorkerError(self._ended())
        return data

    def _ended(self) -> str:
        self._process.kill()
        return f"ended with exit code {self._process.wait()}"

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self.close()

    def close(self) -> None:
        """Close the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _can_start() -> bool:
    """Whether this process is an interpreter that can be started again, with the rights of the user."""
    name = os.path.basename(sys.executable or "")
    return name.startswith(("python", "pypy")) and not hasattr(sys, "frozen") and is_environment_trusted()


_pool = _Pool()


@atexit.register
def _end_workers() -> None:
    _pool.is_ending = True
    for worker in list(_pool.workers):
        worker.kill()


def _in_child() -> None:
    """After a fork: the workers are the parent's."""
    global _pool
    workers, _pool = list(_pool.workers), _Pool()
    for worker in workers:
        worker.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
