"""The executor without streams: tasks are executed on the caller's thread."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.streams import priorities
from cpuruntime.streams.base import Executor, lifetimes
from cpuruntime.streams.callback_pool import call_back
from cpuruntime.streams.task import Stream, Task, not_accepting
from cpuruntime.streams.thread_group import ThreadGroup


class InlineExecutor(Executor):
    """Executes each task on the thread that brings it, one at a time, unpinned; it has no threads of its own.

    `submit` returns when the task is over.
    """

    def __init__(self, level: int = priorities.MEDIUM) -> None:
        self.streams = [Stream(0, ThreadGroup(1, level=level))]
        self.unpinned = ()
        self._turn = threading.Lock()
        self._closed = False
        priorities.enter(level)
        weakref.finalize(self, priorities.leave, level).atexit = False
        lifetimes.add(self)

    def submit(self, task: Task, function: Callable[[], None] | None = None) -> bool:
        self._check()
        error: BaseException | None = None
        task._submitted()
        try:
            with self._turn:
                task.taken = time.perf_counter_ns()
                task.control.check(task.taken)
                task._execute(self.streams[0])
        except BaseException as raised:
            error = raised
        _end(task, error, function)
        return error is None

    def run(self, task: Task) -> None:
        self._check()
        task.control.clear()
        task.taken = 0
        with self._turn:
            task._execute(self.streams[0])

    def _check(self) -> None:
        if self._closed:
            raise not_accepting()

    def cancel(self, task: Task) -> None:
        task.control.cancel()

    def notify(self, task: Task, function: Callable[[], None]) -> None:
        call_back(function)

    def stop(self, cancel: bool = False, wait: bool = True) -> None:
        self._closed = True
        if wait:
            with self._turn:
                return

    def interrupt(self) -> None:
        self._closed = True
        self.streams[0]._group.interrupt()

    def join(self, deadline: float) -> str:
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return "streams"
        self._turn.release()
        return ""

    def forked(self) -> None:
        self._turn = threading.Lock()


@uninterrupted
def _end(task: Task, error: BaseException | None, function: Callable[[], None] | None) -> None:
    """A submission is over: call back, unless an interrupt ended it."""
    task.complete(error)
    if error is not None and not isinstance(error, Exception):
        raise error
    if function is not None:
        call_back(function)
