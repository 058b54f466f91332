"""The interface of executors, and their end: with the process, or in a forked child."""

from __future__ import annotations

import atexit
import logging
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cpuruntime.host import forks
from cpuruntime.streams import priorities, running_callbacks
from cpuruntime.streams.call import Call, Varying
from cpuruntime.streams.task import Stream, Task

log = logging.getLogger("cpuruntime")

EXIT_PATIENCE = 5.0
"""Seconds that the end of the process waits for all streams together."""


class Executor(ABC):
    """Executes tasks by streams. All methods may be called from any thread, callbacks included.

    A task is submitted or run again only after it is over.
    """

    streams: Sequence[Stream]
    unpinned: Sequence[str]
    """Why threads that were to be pinned are not; empty when all is as wanted."""

    @abstractmethod
    def submit(self, task: Task, function: Callable[[], None] | None = None) -> bool:
        """Has the task executed, in the order that Task says, and `function` called after it as by `notify`.

        Returns whether it is over already, without an error: a job that takes less time than to hand it over runs here.
        Error when the executor is stopped.
        """

    @abstractmethod
    def run(self, task: Task) -> None:
        """Executes the task before it returns, on the calling thread if a stream is idle; raises what the task raises.

        conclude() is not called. Ctrl-C (KeyboardInterrupt) ends the wait for a busy stream: a task that has not begun
        never will; one that has is waited for, and Ctrl-C again ends it at its next step.
        """

    def infer_again(self, task: Task, call: Call, varying: Varying | None = None) -> Callable[..., Any] | None:
        """What runs a request's task again and makes a result of it; see Again.infer. None where nothing does."""
        return None

    @abstractmethod
    def cancel(self, task: Task) -> None:
        """Ends the task soon if it was submitted; its error then is CancelledError.

        One that has not begun ends at once, one that runs at the next step boundary of a native job, unless it is
        finished before that. Does nothing to a task that is over.
        """

    def coalesce(self, most: int, choose: Callable[[Sequence[Task]], int]) -> list[Task]:
        """Takes tasks out of the queue that are executed together with another one, which is about to run.

        choose: given the next tasks of the queue, at most `most`, says how many of them, from the first on. It is
        called under a lock and calls nothing of the executor.

        The tasks end by their `complete`.
        """
        return []

    @abstractmethod
    def notify(self, task: Task, function: Callable[[], None]) -> None:
        """Calls a function, which does not raise, once when the task's submission is over.

        On a thread for callbacks; on this one if they have ended.
        """

    @abstractmethod
    def stop(self, cancel: bool = False, wait: bool = True) -> None:
        """Takes no more tasks, executes the queued ones, and ends all threads.

        With `cancel` queued tasks get CancelledError instead of being executed. Returns when everything is over; at
        once if `wait` is False or if it is called from a callback. Stopping again is allowed.
        """


class Lifetime(Protocol):
    """The part of an executor that the end of the process and a fork deal with."""

    def interrupt(self) -> None:
        """Cancels everything queued and running; does not wait."""

    def join(self, deadline: float) -> str:
        """Waits for all threads until the deadline (time.monotonic); "streams" or "callbacks" when some are left."""

    def forked(self) -> None:
        """Called in a forked child, where the threads do not exist."""


lifetimes: weakref.WeakSet[Any] = weakref.WeakSet()
"""The Lifetime of every executor that has not ended."""


def _at_exit() -> None:
    """Ends every executor while threads can still run; requests in flight get CancelledError."""
    left_over: list[Lifetime] = list(lifetimes)
    for lifetime in left_over:
        lifetime.interrupt()
    deadline = time.monotonic() + EXIT_PATIENCE
    left = {lifetime.join(deadline) for lifetime in left_over}
    if "streams" in left:
        log.warning("streams were still busy %g seconds after the end of the program", EXIT_PATIENCE)
    if "callbacks" in left:
        text = "callbacks had not returned %g seconds after the end of the program: %s"
        log.warning(text, EXIT_PATIENCE, running_callbacks.names() or "unknown")


def _in_child() -> None:
    running_callbacks.running.clear()
    priorities.forked()
    for lifetime in list(lifetimes):
        lifetime.forked()
    lifetimes.clear()


atexit.register(_at_exit)
forks.functions.append(_in_child)
