"""The executor without streams: everything happens on the caller's thread."""

from __future__ import annotations

import threading
import time

from .base import Executor, alive
from .task import Stream, Task, not_accepting
from .thread_group import ThreadGroup


class InlineExecutor(Executor):
    """Executes each task on the thread that brings it, one at a time, unpinned; it has no threads of its own.

    `submit` returns when the task is executed and its done() was called.
    """

    def __init__(self) -> None:
        self.streams = [Stream(0, ThreadGroup(1))]
        self.unpinned = ()
        self._turn = threading.Lock()
        self._closed = False
        alive.add(self)

    def submit(self, task: Task) -> None:
        self._check()
        error: BaseException | None = None
        task._submitted()
        try:
            with self._turn:
                task._execute(self.streams[0])
        except BaseException as raised:
            error = raised
        task._over(error)
        task._release()
        if error is not None and not isinstance(error, Exception):
            raise error

    def run(self, task: Task) -> None:
        self._check()
        task.cancellation.clear()
        with self._turn:
            task._execute(self.streams[0])

    def _check(self) -> None:
        if self._closed:
            raise not_accepting(forked=False)

    def cancel(self, task: Task) -> None:
        task.cancellation.set()

    def stop(self, cancel: bool = False, wait: bool = True) -> None:
        self._closed = True
        if wait:
            with self._turn:
                return

    def interrupt(self) -> None:
        self._closed = True
        self.streams[0]._group.interrupt()

    def join(self, deadline: float) -> bool:
        over = self._turn.acquire(timeout=max(0.0, deadline - time.monotonic()))
        if over:
            self._turn.release()
        return over

    def forked(self) -> None:
        self._turn = threading.Lock()
