"""A group of threads that run a native program together: the caller is thread 0, workers are the others."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.host.affinity import allowed_cpus, enter_stream, mask_bytes
from cpuruntime.streams.job import COMPLETED, ELAPSED, Control, Job
from cpuruntime.streams.memory import aligned_bytes, holding_the_gil, lead, notifier
from cpuruntime.streams.native import runner
from cpuruntime.streams.priorities import MEDIUM, TABLE

log = logging.getLogger("cpuruntime")

# Nanoseconds. Between steps a wait is normally far below a microsecond, and long only when a thread lost its core;
# a worker waits for the next job as long as the interpreter takes between two inferences in a loop.
BARRIER_SPIN, BARRIER_YIELD, LINGER = 100_000, 1_000_000, 100_000
QUICK = 10_000
"""Nanoseconds that it takes to get the GIL back from another thread, about."""


class _Memory:
    """The records and atomic words of a group; workers hold on to it for as long as they run."""

    def __init__(self, threads: int, cpus: Sequence[int] | None, crowded: bool, level: int):
        cpu = None if cpus is None else cpus[0]
        self.words = aligned_bytes(runner.WORDS_BYTES + 2 * runner.MASK_BYTES)
        address: int = self.words.ctypes.data
        mask = runner.WORDS_BYTES
        if cpu is not None:
            self.words[mask : mask + runner.MASK_BYTES] = np.frombuffer(mask_bytes([cpu], runner.MASK_BYTES), np.uint8)
        self.group = np.zeros(1, runner.GROUP)
        self.group["words"], self.group["threads"] = address, threads
        self.group["cpu"] = -1 if cpu is None else cpu
        self.group["mask"], self.group["saved_mask"] = address + mask, address + mask + runner.MASK_BYTES
        # With fewer cores than threads a spinning thread keeps the core from the one it waits for.
        self.group["spin"] = 0 if crowded else BARRIER_SPIN
        self.group["yielding"], self.group["linger"] = BARRIER_YIELD, 0 if crowded else LINGER
        self.owns = np.array(sorted(set(cpus or ())), np.int64)
        self.group["level"], self.group["table"] = level, TABLE
        self.group["owns"], self.group["owned"] = self.owns.ctypes.data, len(self.owns)
        self.address: int = self.group.ctypes.data


class ThreadGroup:
    """`threads` threads that run jobs together; all but thread 0 are started here and idle without using any CPU.

    cpus: one processor for each thread, to which it is pinned, or None to leave all of them where the system puts
    them. crowded: other groups share these processors, so do not spin. level: the priority, see `claims`. Threads that
    cannot be pinned run all the same; `unpinned` says why. Thread names are `name` + "t1", "t2"... One `run` at a time.
    The workers end with `stop` or with the last reference to the group.
    """

    def __init__(
        self,
        threads: int,
        cpus: Sequence[int] | None = None,
        name: str = "cpurt-",
        crowded: bool = False,
        level: int = MEDIUM,
    ):
        if threads < 1 or (cpus is not None and len(cpus) != threads):
            raise InvalidArgumentError(f"A group has one thread or more and a CPU for each: {threads} threads, {cpus}.")
        self.threads = threads
        self.level = level
        self.cpus = None if cpus is None else tuple(cpus)
        self.unpinned: list[str] = []
        processors = set(self.cpus) if self.cpus is not None else allowed_cpus()
        crowded = crowded or threads > len(processors)
        self._memory = _Memory(threads, self.cpus, crowded, level)
        self.address = self._memory.address
        """Where the native record of the group is, a runner.GROUP."""
        self._lead = lead()
        self._quick_lead = holding_the_gil(runner.lead)
        self._rouse = holding_the_gil(runner.rouse)
        self._resting, self._rousing = self.word(runner.RESTING), self.word(runner.ROUSING)
        self._workers: list[threading.Thread] = []
        if threads > 1:
            self._dismissal = (self.address_of(runner.POSTED), runner.DISMISSAL, 0)
            weakref.finalize(self, notifier(), *self._dismissal).atexit = False
            self._start(name)

    def _start(self, name: str) -> None:
        ready: SimpleQueue[str] = SimpleQueue()
        inherited = allowed_cpus()
        try:
            for index in range(1, self.threads):
                cpu = None if self.cpus is None else self.cpus[index]
                place = (f"{name}t{index}", cpu, inherited)
                worker = threading.Thread(
                    target=_work, args=(self._memory, index, self.threads, place, ready), name=place[0], daemon=True
                )
                worker.start()
                self._workers.append(worker)
            self.unpinned += filter(None, [ready.get() for _ in self._workers])
        except BaseException:
            self.stop()
            raise
        for reason in self.unpinned:
            log.warning("%s", reason)

    def run(self, job: Job, control: Control | None = None, pin_caller: bool = False) -> None:
        """Runs all steps of `job`, the calling thread being thread 0; returns when all are done.

        Without the GIL, unless the job is for one thread and took less the last time than it takes to get the GIL back
        from another thread.

        With `pin_caller` and pinned workers the calling thread moves to the group's first CPU for the duration; a
        thread that runs there already is left alone when the job is short. Raises CancelledError or
        DeadlineExceededError when the run was ended early, by `control` or by `interrupt`; some steps have then not
        been run.
        """
        if job.control is not control:
            job.listen_to(control)
        fields = job.fields
        asked = runner.PIN if pin_caller and self.cpus is not None else 0
        if 0 < fields[ELAPSED] < QUICK and (self.threads == 1 or not job.shared):
            self._quick_lead(self.address, job.address, asked + runner.HOLDS_GIL)
        else:
            self._lead(self.address, job.address, asked)
        if fields[COMPLETED] < job.steps:
            job.check_completed()

    def rouse(self) -> None:
        """Has workers spin for the next job, which comes soon. Safe at any time."""
        self._rousing[0] ^= 1
        if self._resting[0]:
            self._rouse(self.address, 0, 0)

    def interrupt(self) -> None:
        """Ends the run in progress at its next step boundary, and every later one after its first step. Any thread."""
        self.word(runner.INTERRUPT)[0] = 1

    @property
    def caller_unpinned(self) -> bool:
        """Whether a calling thread could not be pinned."""
        return self.word(runner.UNPINNED)[0] != 0

    def address_of(self, offset: int) -> int:
        """The address of one of the group's words; see ops/runner.py."""
        address: int = self._memory.words.ctypes.data
        return address + offset

    def word(self, offset: int, size: int = 4) -> memoryview:
        """One of the group's words."""
        return self._memory.words[offset : offset + size].view(f"i{size}").data

    def stop(self) -> None:
        """Ends the workers and returns when they are gone. Not while a run is in progress; again does nothing."""
        if self._workers:
            # Not by the finaliser: the standard library disables those when the process begins to end.
            notifier()(*self._dismissal)
        for worker in self._workers:
            worker.join()


def _work(
    memory: _Memory, index: int, threads: int, place: tuple[str, int | None, frozenset[int]], ready: SimpleQueue[str]
) -> None:
    """A worker's life; it refers to the group's memory, not to the group, so that the group can be dropped."""
    ready.put(enter_stream(*place))
    runner.work.entry(memory.address, index, threads)
