"""What a stream executes."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod

import numpy as np

from cpuruntime.errors import CancelledError, Error
from cpuruntime.ops import runner

from .job import Cancellation, Job
from .native import aligned_bytes, notifier
from .thread_group import ThreadGroup

log = logging.getLogger("cpuruntime")

# A waiting thread looks every so often whether the interpreter has a signal to handle; nanoseconds.
_GLANCE = 50_000_000
# How long a thread spins for the end of an inference that took less than that the last time; nanoseconds.
_QUICK = 100_000

_forks = 0


class Stream:
    """A thread group and what its owner keeps with it. One task at a time has it; only that task touches it.

    `index` counts from 0, `threads` is the size of the group, `cpus` are its processors or None when it is not pinned.
    `state` belongs to the caller of the executor: what one stream needs for itself, such as its arena.
    """

    __slots__ = ("__weakref__", "_group", "_pin_caller", "cpus", "index", "state", "threads")

    def __init__(self, index: int, group: ThreadGroup):
        self.index = index
        self.threads = group.threads
        self.cpus = group.cpus
        self.state: dict[object, object] = {}
        self._group = group
        self._pin_caller = False

    def run(self, job: Job, cancellation: Cancellation | None = None) -> None:
        """Runs a job by all threads of the stream, the calling one being thread 0, without the GIL.

        CancelledError when it was ended early.
        """
        self._group.run(job, cancellation, self._pin_caller)


class Task(ABC):
    """Work for a stream: native jobs with the interpreter between them. It can be submitted again when it is over.

    `cancellation` ends the native job in progress; a submission clears it. `placed` becomes True when a stream or the
    queue has the task, so that done() is certain to be called, and False at the beginning of a submission.
    """

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self._memory = aligned_bytes(runner.SIGNAL.itemsize)
        self._address: int = self._memory.ctypes.data
        words = self._memory.view(np.int64)
        self._count = words.view(np.int32).data
        self._spin = words.data[runner.VALUE // 8 :]
        # The signal's count while the latest submission is not over. A count that differs means that it is.
        self._pending = -1
        self._forks = _forks
        self._wait = runner.wait.entry
        # The executor's, of the latest submission: what begin() returned or raised, whether it was called.
        self._job: Job | None = None
        self._error: Exception | None = None
        self._begun = self.placed = False

    @abstractmethod
    def begin(self, stream: Stream) -> Job | None:
        """Binds this task's data to the stream and returns the native job to run first, None if there is none.

        Called once for a submission, on the submitting thread if a stream is idle, else on a stream's thread: it is
        short and waits for nothing. What it raises is the task's result.
        """

    @abstractmethod
    def resume(self, stream: Stream) -> Job | None:
        """Called after each job, or after begin() if that had none: what the interpreter has to do between jobs.

        Returns the next job, None when the task is finished. What it raises is the task's result.
        """

    @abstractmethod
    def done(self, error: BaseException | None) -> None:
        """Called once for a submission when it is over. What it raises is logged.

        On a stream's thread, or on the thread that cancels the task or stops the executor before it began. The task
        may be submitted again from here.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until done() has returned for the latest submission, at most `timeout` seconds; False when it has not.

        At once True when nothing was submitted. Any thread; Ctrl-C interrupts it. Error in a forked child.
        """
        pending = self._pending
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._count[0] == pending:
            if self._forks != _forks:
                raise not_accepting(forked=True)
            nap = _GLANCE
            if deadline is not None:
                nap = min(nap, int((deadline - time.monotonic()) * 1e9))
                if nap <= 0:
                    return False
            self._wait(self._address, pending, nap)
        return True

    def _submitted(self) -> None:
        """Begins a submission."""
        self.cancellation.clear()
        self._job = self._error = None
        self.placed = self._begun = False
        self._forks = _forks
        self._pending = (self._pending + 1 + 2**31) % 2**32 - 2**31

    def _begin(self, stream: Stream) -> None:
        """Calls begin() ahead of the leader."""
        self._begun = True
        try:
            job = self.begin(stream)
            if job is not None:
                job.listen_to(self.cancellation)
                self._spin[0] = _QUICK // 2 if job.elapsed < _QUICK else 0
            self._job = job
        except Exception as error:
            self._error = error

    def _execute(self, stream: Stream) -> None:
        """Runs the task from beginning to end on the calling thread."""
        job = self.begin(stream)
        if job is not None:
            stream.run(job, self.cancellation)
        while (job := self.resume(stream)) is not None:
            stream.run(job, self.cancellation)

    def _finish(self, stream: Stream) -> None:
        """What a leader does with a task: the rest, if it was begun and its first job run, else all of it."""
        if not self._begun:
            if self.cancellation.is_set():
                raise CancelledError("The inference was cancelled before it began.")
            self._execute(stream)
            return
        if self._error is not None:
            raise self._error
        if self._job is not None:
            self._job.check_completed()
        while (job := self.resume(stream)) is not None:
            stream.run(job, self.cancellation)

    def _over(self, error: BaseException | None) -> None:
        """Calls done()."""
        try:
            self.done(error)
        except BaseException:
            log.exception("the callback of an inference raised")

    def _release(self) -> None:
        """Wakes those who wait for the submission."""
        notifier()(self._address, 0, 0)


def not_accepting(forked: bool) -> Error:
    """The error of work given to streams that cannot do it."""
    if forked:
        return Error(
            "This compiled model was made before the process forked, and its threads exist only in the parent. "
            "Compile the model in the child, or start the child with the 'spawn' method of multiprocessing."
        )
    return Error("This compiled model is released and takes no more inferences.")


def forked() -> None:
    """Called in a forked child: submissions made before will never be over."""
    global _forks
    _forks += 1
