"""What a stream executes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.errors import Error
from cpuruntime.host import forks
from cpuruntime.streams.job import ELAPSED, Control, Job
from cpuruntime.streams.memory import aligned_bytes, notifier
from cpuruntime.streams.native import runner, signals
from cpuruntime.streams.priorities import MEDIUM
from cpuruntime.streams.thread_group import ThreadGroup

# A waiting thread looks every so often whether the interpreter has a signal to handle; nanoseconds.
_GLANCE = 50_000_000
# How long a thread spins for the end of an inference that took less than that the last time; nanoseconds.
_QUICK = 100_000

_SPIN, COMPLETED, _ALSO, _POOL = (
    offset // 8 for offset in (signals.VALUE, runner.TASK_COMPLETED, runner.ALSO, runner.POOL)
)
_NOTIFIES = runner.NOTIFIES // 4
_CONTROL, _REPEAT = runner.TASK_CONTROL // 8, runner.REPEAT // 8


Notification = tuple[memoryview, int, Callable[[], None]]
"""A task's count, its value while the submission is not over, and a function to call then, which does not raise."""


class Stream:
    """A thread group and what its owner keeps with it. One task at a time has it; only that task touches it.

    `index` counts from 0, `threads` is the size of the group, `cpus` are its processors or None when it is not pinned.
    `state` belongs to the caller of the executor: what one stream needs for itself, such as its arena. `job` is the
    latest one.
    """

    __slots__ = ("__weakref__", "_group", "_pin_caller", "cpus", "index", "job", "state", "threads")

    def __init__(self, index: int, group: ThreadGroup):
        self.index = index
        self.threads = group.threads
        self.cpus = group.cpus
        self.state: dict[Any, Any] = {}
        self.job: Job | None = None
        self._group = group
        self._pin_caller = False

    def run(self, job: Job, control: Control | None = None) -> None:
        """Runs a job by all threads of the stream, the calling one being thread 0, without the GIL.

        CancelledError or DeadlineExceededError when it was ended early.
        """
        self._group.run(job, control, self._pin_caller)


class Task(ABC):
    """Work for a stream: native jobs with the interpreter between them. It can be submitted again when it is over.

    `control` ends the native job in progress; a submission clears its cancellation. `deadline` is 0 or the clock of
    time.perf_counter_ns from which on the task is not to be executed any more; `agree` sets it. Of the tasks that wait
    those of the highest `priority` begin first, of these the one with the earliest deadline, else the one submitted
    first. `placed` becomes True when a stream or the queue has the task, so that the submission is certain to be over
    some time, and False at its beginning.

    begin() says whether the task is `whole`, that is, its job is all there is to do. It may then be over without the
    interpreter: resume() and conclude() are left out, and the stream refers to the job and not to the task; `memory`
    owns what the job works on and the task alone refers to. The word `repeat` is the address of a job of the task's
    own that does what begin() would give, or 0: it is run without begin().
    """

    whole = False
    priority = MEDIUM
    deadline = 0
    memory: object = None

    def __init__(self) -> None:
        self.control = Control()
        memory = aligned_bytes(runner.TASK.itemsize)
        self._address: int = memory.ctypes.data
        self._words = memory.view(np.int64).data
        self.repeat = self._words[_REPEAT:]
        self.listen_to(self.control)
        self._count = memory.view(np.int32).data
        self._signals: tuple[np.ndarray, ...] = (memory,)
        # The signal's count while the latest submission is not over. A count that differs means that it is.
        self._pending = -1
        self._generation = forks.generation
        self._wait = signals.wait.entry
        self._notify = notifier()
        # The executor's, of the latest submission: the stream it was lent, what begin() returned or raised, whether it
        # was called, the steps of a job that ends it without the interpreter, when a stream took it from the queue.
        self._stream: Stream | None = None
        self._job: Job | None = None
        self._error: Exception | None = None
        self._failure: BaseException | None = None
        self._begun = self.placed = False
        self._steps = self.taken = 0

    def agree(self, priority: int, deadline: int) -> None:
        """Sets `priority` and `deadline` for the following submissions."""
        self.priority, self.deadline = priority, deadline
        self.control.deadline = deadline

    def listen_to(self, control: Control) -> None:
        """Has another `control`."""
        self.control = control
        self._words[_CONTROL] = control.address

    @property
    def is_over(self) -> bool:
        """Whether the latest submission is over; True when nothing was submitted."""
        return self._count[0] != self._pending

    @property
    def is_lost(self) -> bool:
        """Whether the latest submission was made before the process forked, and is never over here."""
        return self._generation != forks.generation

    @property
    def error(self) -> BaseException | None:
        """The error of the latest submission, which is over; None if it succeeded."""
        completed: int = self._words[COMPLETED]
        return self._failure or (self.control.error(completed, self._steps) if completed < self._steps else None)

    def check(self) -> None:
        """Raises the error of the latest submission, which is over, if it has one."""
        if self.error is not None:
            raise self.error

    @property
    def ended(self) -> int:
        """When the latest submission ended, on the clock of time.perf_counter_ns."""
        return self.control.ended

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

    def conclude(self, error: BaseException | None) -> BaseException | None:
        """Called once for a submission before it is over, unless it ends without the interpreter; returns its error.

        On a stream's thread, or the one that cancels the task or stops the executor before it began.
        """
        return error

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the latest submission is over, at most `timeout` seconds; False when it is not.

        At once True when nothing was submitted. Any thread; Ctrl-C interrupts it. Error in a forked child.
        """
        pending = self._pending
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._count[0] == pending:
            forks.check(self._generation)
            nap = _GLANCE
            if deadline is not None:
                nap = min(nap, int((deadline - time.monotonic()) * 1e9))
                if nap <= 0:
                    return False
            self._wait(self._address, pending, nap)
        return True

    def _submitted(self) -> None:
        """Begins a submission."""
        self.control.switch[0] = 0
        self._stream = self._job = self._error = self._failure = None
        self.placed = self._begun = False
        self._steps = self.taken = 0
        self._generation = forks.generation
        self._count[_NOTIFIES] = 0
        self._pending = self._count[0]

    def _begin(self, stream: Stream) -> None:
        """Calls begin() ahead of the leader."""
        self._begun = True
        try:
            job = self._begin_on(stream)
            if job is not None:
                if job.control is not self.control:
                    job.listen_to(self.control)
                self._words[_SPIN] = _QUICK // 2 if job.fields[ELAPSED] < _QUICK else 0
            self._job = job
        except Exception as error:
            self._error = error

    def _begin_on(self, stream: Stream) -> Job | None:
        """Calls begin() while the workers wake up."""
        if stream.threads > 1:
            stream._group.rouse()
        stream.job = job = self.begin(stream)
        if not self.whole:
            self.repeat[0] = 0
        return job

    def _execute(self, stream: Stream) -> None:
        """Runs the task from beginning to end on the calling thread."""
        job = self._begin_on(stream)
        if job is not None:
            stream._group.run(job, self.control, stream._pin_caller)  # `stream.run` less one frame
            if self.whole:
                return
        while (job := self.resume(stream)) is not None:
            stream.run(job, self.control)

    def _ran_again(self, left: int) -> None:
        """Takes note of a job that ran again without a stream being lent, and left out so many steps."""
        self._failure = None
        self.taken = 0
        self._steps = self._words[COMPLETED] + left

    def _finish(self, stream: Stream) -> None:
        """What a leader does with a task: the rest, if it was begun and its first job run, else all of it."""
        if not self._begun:
            self.taken = time.perf_counter_ns()
            self.control.check(self.taken)
            self._execute(stream)
            return
        if self._error is not None:
            raise self._error
        if self._job is not None:
            self._job.check_completed()
        while (job := self.resume(stream)) is not None:
            stream.run(job, self.control)

    def _notify_pool(self, pool: int, function: Callable[[], None]) -> Notification:
        """Has the signal at `pool` notified, too, when the submission is over."""
        self._words[_POOL] = pool
        self._count[_NOTIFIES] = 1
        return self._count, self._pending, function

    def _conclude(self, error: BaseException | None) -> None:
        """Takes note of the submission's end through the interpreter."""
        if error is not None:
            self.control.ended = time.perf_counter_ns()
            self.taken = self.taken or self.control.ended
        try:
            self._failure = self.conclude(error)
        except BaseException as raised:
            self._failure = raised

    def complete(self, error: BaseException | None) -> None:
        """Ends a submission that no stream has."""
        self._conclude(error)
        self._release()

    def _release(self) -> None:
        """Wakes those who wait for the submission."""
        self._notify(self._address, 0, 0)
        also: int = self._words[_ALSO]
        if also:
            self._notify(also, 0, 0)
        if self._count[_NOTIFIES]:
            self._notify(self._words[_POOL], 0, 0)


class Signal:
    """Something to wait for: `count` goes up whenever a submission of one of some tasks is over.

    The tasks are idle when it is made; one of them notifies the signal made last only.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._memory = aligned_bytes(signals.SIGNAL.itemsize)
        self._address: int = self._memory.ctypes.data
        self._count = self._memory.view(np.int32).data
        self._spin = self._memory.view(np.int64).data[signals.VALUE // 8 :]
        self._like = tasks[0]
        self._wait = signals.wait.entry
        self._generation = forks.generation
        for task in tasks:
            task._signals = (*task._signals[:1], self._memory)
            task._words[_ALSO] = self._address

    @property
    def count(self) -> int:
        """How often it was notified so far, modulo 2**32."""
        return self._count[0]

    def wait(self, count: int, in_flight: object = (), timeout: float | None = None) -> None:
        """Waits until the count is no longer `count`, at most `timeout` seconds; may return earlier.

        Any thread; Ctrl-C interrupts it. Error in a forked child. Which tasks are `in_flight` does not matter.
        """
        forks.check(self._generation)
        self._spin[0] = self._like._words[_SPIN]
        self._wait(self._address, count, _GLANCE if timeout is None else min(int(timeout * 1e9), _GLANCE))

    def wake(self) -> None:
        """Makes the count go up."""
        notify_all((self._memory,))


def notify_all(signals: Sequence[np.ndarray]) -> None:
    """Notifies those who wait for signals, given their memory."""
    for memory in signals:
        notifier()(memory.ctypes.data, 0, 0)


def not_accepting() -> Error:
    """The error of work given to an executor that has been stopped."""
    return Error("This compiled model is released and takes no more inferences.")
