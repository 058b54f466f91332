"""The scheduler: the queue, the idle streams and their end, shared by leader threads and the executor."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from queue import SimpleQueue

import numpy as np

from cpuruntime.errors import CancelledError, DeadlineExceededError, Error
from cpuruntime.host import forks
from cpuruntime.host.affinity import enter_stream
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.streams import handover, priorities
from cpuruntime.streams.again import Again
from cpuruntime.streams.callback_pool import CallbackPool
from cpuruntime.streams.led_stream import LedStream
from cpuruntime.streams.native import runner
from cpuruntime.streams.task import Notification, Task, not_accepting, notify_all


class Scheduler:
    """What leaders share with the executor; they hold this and not the executor, so that it can be dropped.

    `mutex` guards everything else, except that streams are added to `idle` without it. A stream is idle, or a task has
    it, or it is lent; `idle` lists also those in flight, which are idle from the end of their job on unless they were
    recalled. While a stream is idle the queue is empty, or about to be dispatched. `closed` never becomes False again.
    `ended` is called when there is nothing left to do for good, at the latest when the last leader ends.

    Attributes:
        queue: the tasks that wait, the first to begin first.
        again: what runs short jobs again without a stream being lent.
        alarm: when the callback pool has to look for tasks that waited too long, 0 for never.
        leading: how many leaders there are.
        level: the priority of the streams among all of the process, once they count.
    """

    def __init__(self, ended: Callable[[], None] | None = None) -> None:
        # One thread may want it twice: in a signal handler, or when the garbage collector closes the model.
        self.mutex = threading.RLock()
        self.queue: list[handover.Entry] = []
        self.idle: list[LedStream] = []
        self.streams: list[LedStream] = []
        self.again = Again(self.idle, self.queue)
        self.pool = CallbackPool()
        self.alarm = 0
        self.leading = 0
        self.level: int | None = None
        self.closed = False
        self._generation = forks.generation
        self._ended = [ended] if ended is not None else []
        self._numbers = count()

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child, where the streams have no threads."""
        return self._generation != forks.generation

    def check(self) -> None:
        """Error where no task can be executed."""
        forks.check(self._generation)
        if self.closed:
            raise not_accepting()

    def add(self, stream: LedStream) -> None:
        with self.mutex:
            self.streams.append(stream)
            self.idle.append(stream)
            self.leading += 1

    def enqueue(self, task: Task, notifications: tuple[Notification, ...]) -> None:
        """Puts a task in the queue. The caller has the mutex."""
        deadline = task.deadline
        entry = (-task.priority, deadline or math.inf, next(self._numbers), task)
        if deadline and not 0 < self.alarm <= deadline:
            self.alarm = deadline
            self.pool.notify()
        handover.enqueue(self.queue, entry, self.pool.waiting, notifications)

    def expire(self) -> int:
        """Ends the tasks in the queue whose deadline has passed; returns the alarm."""
        now = time.perf_counter_ns()
        if not 0 < self.alarm <= now:
            return self.alarm
        with self.mutex:
            late = [entry for entry in self.queue if entry[1] <= now]
            self.queue[:] = [entry for entry in self.queue if entry[1] > now]
            self.alarm = min((int(entry[1]) for entry in self.queue if entry[1] < math.inf), default=0)
        text = "The inference's deadline passed before it began."
        _refuse([entry[3] for entry in late], DeadlineExceededError, text)
        return self.alarm

    @property
    def is_finished(self) -> bool:
        """Whether no task is over any more."""
        return self.closed and not self.leading

    def lend(self, task: Task) -> bool:
        """Lends an idle stream, the one used last, to the thread that brings the task; whether there was one.

        The caller has the mutex, and gives back what an interrupt may leave in the task.
        """
        for stream in reversed(self.idle):
            if stream.flight[0] == runner.IDLE:
                task._stream = stream
                stream.lent = task
                self.idle.remove(stream)
                return True
        return False

    def dispatch(self) -> None:
        """Sees to it that a leader looks at the queue.

        Call it after a task was queued or put in flight: a stream may have become idle, or be in flight, without
        having seen the queue. An interrupt loses no task; called again, it does what is left.
        """
        with self.mutex:
            for index, stream in reversed([*enumerate(self.idle)]):
                stream.recall()
                if not handover.give_first(stream, self.queue, self.idle, index) and self.closed:
                    stream.ring()

    def next(self, stream: LedStream) -> Task | None:
        """The next task for a leader; None makes its stream idle."""
        with self.mutex:
            if self.queue:
                return self.queue.pop(0)[3]
            self.idle.append(stream)
            return None

    def coalesce(self, most: int, choose: Callable[[Sequence[Task]], int]) -> list[Task]:
        """See Executor."""
        with self.mutex:
            first = [entry[3] for entry in self.queue[:most]]
            count = choose(first) if first else 0
            del self.queue[:count]
        now = time.perf_counter_ns()
        for task in first[:count]:
            task.taken = now
        return first[:count]

    def recalled(self, stream: LedStream) -> Task | None:
        """`next` for a leader that was recalled."""
        with self.mutex:
            self.idle.remove(stream)
        stream.flight[0] = runner.IDLE
        return self.next(stream)

    def retire(self, stream: LedStream) -> bool:
        """Whether the leader ends here: nothing is queued, nobody has the stream, and no task can come."""
        with self.mutex:
            if not self.closed or self.queue or stream not in self.idle or stream.flight[0] != runner.IDLE:
                return False
            self.idle.remove(stream)
            return True

    def leave(self) -> None:
        """A leader ends, and the threads of its stream have ended."""
        with self.mutex:
            self.leading -= 1
            is_last = self.leading == 0
        if is_last:
            self.pool.notify()
            if self.level is not None:
                priorities.leave(self.level)
            self._end()

    def _end(self) -> None:
        """Calls `ended`, unless somebody did."""
        with suppress(IndexError):
            ended = self._ended.pop()
            ended()

    def withdraw(self, task: Task) -> bool:
        """Takes a task out of the queue; False when it has begun. True also for one that never got there."""
        with self.mutex:
            return self._withdraw(task) or not task.placed

    def _withdraw(self, task: Task) -> bool:
        for index, entry in enumerate(self.queue):
            if entry[3] is task:
                del self.queue[index]
                return True
        return False

    @uninterrupted
    def cancel(self, task: Task) -> None:
        task.control.cancel()
        with self.mutex:
            found = self._withdraw(task)
        if found:
            _refuse([task], CancelledError, "The inference was cancelled before it began.")

    @uninterrupted
    def abandon(self) -> None:
        """Lets the leaders end when the queue is empty. Takes no lock: the garbage collector calls it, at any point."""
        self.closed = True
        for stream in self.streams:
            stream.close()
        if self._ended and self._is_over():
            self._end()
        self.pool.notify()

    def _is_over(self) -> bool:
        """Whether all that is left to the leaders is to end; sure only where no work can come."""
        working = any(stream.flight[0] != runner.IDLE for stream in self.streams)
        return not self.queue and not working and len(self.idle) == len(self.streams)

    @uninterrupted
    def close(self, cancel: bool) -> None:
        tasks = []
        with self.mutex:
            if cancel:
                tasks = [entry[3] for entry in self.queue]
                self.queue.clear()
            self.abandon()
        _refuse(tasks, CancelledError, "The compiled model was released before this inference began.")

    def join(self, deadline: float | None = None) -> str:
        """Waits for the leaders, they for their workers, and for callbacks; says which are left at the deadline."""
        if self.is_forked:
            return ""
        leaders = [stream.leader for stream in self.streams if stream.leader is not None]
        for leader in leaders:
            leader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if any(leader.is_alive() for leader in leaders):
            return "streams"
        return "" if self.pool.join(deadline) else "callbacks"

    def interrupt(self) -> None:
        self.close(cancel=True)
        for stream in self.streams:
            stream._group.interrupt()

    def forked(self) -> None:
        self.mutex = threading.RLock()
        self.closed = True
        for stream in self.streams:
            stream.close()


def lead(
    scheduler: Scheduler, stream: LedStream, place: tuple[str, int | None, frozenset[int]], ready: SimpleQueue[str]
) -> None:
    """A leader's life. While it waits it refers to no task: a task may keep the executor alive.

    Those who wait for a task are woken when the leader is back in native code, so that they find the GIL free; until
    then `finished` keeps the memory of the task's signal.
    """
    ready.put(enter_stream(*place))
    nothing: tuple[int, Sequence[np.ndarray]] = (0, ())
    finished = nothing
    while True:
        stream.attend(finished[0])
        finished = nothing
        task = scheduler.recalled(stream) if stream.was_recalled else stream.take()
        while task is not None:
            task._conclude(_outcome(stream, task))
            following = scheduler.next(stream)
            if following is None and not scheduler.closed:
                finished = (task._address, task._signals)
            else:
                task._release()
            task = following
        if scheduler.closed and scheduler.retire(stream):
            notify_all(finished[1])
            scheduler.pool.notify()
            stream._group.stop()
            scheduler.leave()
            return


def _refuse(tasks: Sequence[Task], kind: type[Error], text: str) -> None:
    """Ends tasks that were in the queue. Not with the mutex: a task may take locks of its own."""
    for task in tasks:
        task.complete(kind(text))


def _outcome(stream: LedStream, task: Task) -> BaseException | None:
    """Executes what is left of a task; returns what it raised."""
    try:
        task._finish(stream)
    except BaseException as error:
        return error
    return None
