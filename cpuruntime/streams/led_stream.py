"""A stream with a thread of its own."""

from __future__ import annotations

import threading

from cpuruntime.streams.memory import holding_the_gil, notifier
from cpuruntime.streams.native import runner
from cpuruntime.streams.task import Stream, Task
from cpuruntime.streams.thread_group import ThreadGroup


class LedStream(Stream):
    """A stream with a leader thread, which waits in native code for the bell.

    `task` is what the stream has been given to do; `lent` is the task of another thread that has the stream, to execute
    it in the leader's place or to begin it before the leader takes it over.

    A task whose job is all there is to do is in flight: the leader runs the job and completes the task without the
    interpreter. Nothing refers to the task meanwhile. `flight` says whether that is so.
    """

    IDLE, IN_FLIGHT = runner.IDLE, runner.IN_FLIGHT

    __slots__ = (
        "_attend",
        "_closed",
        "_led",
        "_recall",
        "address",
        "bell",
        "flight",
        "leader",
        "lent",
        "retained",
        "ring_bell",
        "ring_with_job",
        "task",
    )

    def __init__(self, index: int, group: ThreadGroup):
        super().__init__(index, group)
        self.address = group.address
        self.leader: threading.Thread | None = None
        self.lent: Task | None = None
        self.task: Task | None = None
        self._attend = runner.attend.entry
        self.ring_bell = notifier()
        self.ring_with_job = holding_the_gil(runner.ring)
        self._recall = holding_the_gil(runner.recall)
        self.bell = group.address_of(runner.BELL)
        self._led = group.word(runner.LED, 8)
        self._closed = group.word(runner.CLOSED)
        self.flight = group.word(runner.FLIGHT)
        # The memory of the latest two tasks: the leader may still write there when the next task has the stream.
        self.retained: tuple[object, object] = (None, None)

    def attend(self, finished: int) -> None:
        """Waits for the bell without the GIL and runs the job that it brings; see runner.attend."""
        self._attend(self._group.address, finished, 0)

    def ring(self) -> None:
        """Wakes the leader, which looks for a task and whether to end. Safe in a finaliser."""
        self.ring_bell(self.bell, 0, 0)

    def close(self) -> None:
        """`ring`, now and after each job. Safe in a finaliser."""
        self._closed[0] = 1
        self.ring()

    def recall(self) -> None:
        """Makes the leader return to the interpreter at the end of the job in flight."""
        self._recall(self._group.address, 0, 0)

    def take(self) -> Task | None:
        """The task handed over, its first job run; None if there is none, or if its ring is still to come."""
        task = self.task
        if task is None or (task._job is not None and self._led[0] <= 0):
            return None
        self.task = None
        return task

    @property
    def was_recalled(self) -> bool:
        """Whether the leader is back because of `recall`; the stream then is neither idle nor in flight."""
        return self._led[0] == runner.AFTER_RECALL
