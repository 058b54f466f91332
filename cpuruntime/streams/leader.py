"""A stream's own thread, and the state it shares with the executor."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue

import numpy as np

from cpuruntime.errors import CancelledError
from cpuruntime.ops import runner

from .affinity import enter_stream
from .native import notifier, recaller
from .task import Stream, Task, happen, not_accepting
from .thread_group import ThreadGroup


class LedStream(Stream):
    """A stream with a leader thread, which waits in native code for the bell.

    `task` is what the stream has been given to do; `lent` is the task of another thread that has the stream, to execute
    it in the leader's place or to begin it before the leader takes it over.

    A quiet task flies: the leader runs its job and tells that it is over without the interpreter, and nobody refers to
    the task. `flight` says whether that is so.
    """

    __slots__ = ("_attend", "_bell", "_closed", "_led", "_ring", "_signals", "flight", "leader", "lent", "task")

    def __init__(self, index: int, group: ThreadGroup):
        super().__init__(index, group)
        self.leader: threading.Thread | None = None
        self.lent: Task | None = None
        self.task: Task | None = None
        self._attend = runner.attend.entry
        self._ring = notifier()
        self._bell = group.address_of(runner.BELL)
        self._led = group.word(runner.LED, 8)
        self._closed = group.word(runner.CLOSED)
        self.flight = group.word(runner.FLIGHT)
        # What the leader may still write to when the next task has the stream: the latest two tasks' signals.
        self._signals: tuple[object, object] = (None, None)

    def attend(self, finished: int) -> None:
        """Waits for the bell without the GIL and runs the job that it brings; see runner.attend."""
        self._attend(self._group.address, finished, 0)

    def ring(self) -> None:
        """Makes the leader look at the state of affairs. Safe in a finaliser."""
        self._ring(self._bell, 0, 0)

    def close(self) -> None:
        """Makes the leader look at the state of affairs, now and after each job. Safe in a finaliser."""
        self._closed[0] = 1
        self.ring()

    def recall(self) -> None:
        """Makes the leader come back to the interpreter when what flies has landed."""
        recaller()(self._group.address, 0, 0)

    def hand_over(self, task: Task, core: Core) -> None:
        """Gives the leader a task that was begun on this thread. Its job starts without waiting for the interpreter."""
        job = task._job
        flies = job is not None and task.quiet and task.whole
        if job is not None:
            job.belong_to(task._address if flies else 0)
        # From here to the end as in StreamExecutor.submit: no Ctrl-C can come in between.
        if job is not None and flies:
            task._steps = job.steps
            self._signals = (task._signals, self._signals[0])
            self.flight[0] = runner.FLYING
            core.idle += (self,)
        else:
            self.task = task
        task.placed = True
        self.lent = None
        self._ring(self._bell, 0 if job is None else job.address, 0)

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
        return self._led[0] == runner.RECALLED


class Core:
    """What leaders share with the executor; they hold this and not the executor, so that it can be dropped.

    `mutex` guards everything else, except that streams are added to `idle` without it. A stream is idle, or a task has
    it, or it is lent; `idle` lists also those in flight, which are idle from their landing on unless they were called
    back. While a stream is idle the queue is empty, or about to be dispatched. `closed` never becomes False again.
    `ended` is called when there is nothing left to do for good, at the latest when the last leader ends.
    """

    def __init__(self, ended: Callable[[], None] | None = None) -> None:
        self.mutex = threading.Lock()
        self.queue: deque[Task] = deque()
        self.idle: list[LedStream] = []
        self.streams: list[LedStream] = []
        self.serving: dict[int, LedStream] = {}
        self.closed = False
        self.is_forked = False
        self._ended = [ended] if ended is not None else []
        self._leading = 0

    def check(self) -> None:
        if self.closed or self.is_forked:
            raise not_accepting(self.is_forked)

    def add(self, stream: LedStream) -> None:
        with self.mutex:
            self.streams.append(stream)
            self.idle.append(stream)
            self._leading += 1

    def lend(self, task: Task) -> bool:
        """Lends an idle stream, the one used last, to the thread that brings the task; whether there was one.

        The caller has the mutex, and gives back what an interrupt may leave in the task.
        """
        for stream in reversed(self.idle):
            if stream.flight[0] == runner.LANDED:
                task._stream = stream
                stream.lent = task
                self.idle.remove(stream)
                return True
        return False

    def dispatch(self) -> None:
        """Sees to it that a leader looks at the queue.

        Whoever queued a task or let one fly calls it afterwards: a stream may have landed, or be in flight, without
        knowing of the queue. As in StreamExecutor.submit no Ctrl-C loses a task; called again, it does what is left.
        """
        with self.mutex:
            for index in reversed(range(len(self.idle))):
                stream = self.idle[index]
                stream.recall()
                if self.queue and stream.flight[0] == runner.LANDED:
                    # The leader begins it.
                    stream.task = self.queue[0]
                    del self.queue[0]
                    del self.idle[index]
                    stream.ring()

    def next(self, stream: LedStream) -> Task | None:
        """The next task for a leader; None makes its stream idle."""
        with self.mutex:
            if self.queue:
                return self.queue.popleft()
            self.idle.append(stream)
            return None

    def recalled(self, stream: LedStream) -> Task | None:
        """`next` for a leader that was called back."""
        with self.mutex:
            self.idle.remove(stream)
        stream.flight[0] = runner.LANDED
        return self.next(stream)

    def give_back(self, stream: LedStream, task: Task) -> None:
        """Ends the loan of a stream to a task. Called again after an interrupt, does what is left."""
        if stream.lent is task:
            # From here to the end of the block as in StreamExecutor.submit: no Ctrl-C can come in between.
            stream._pin_caller = False
            stream.lent = None
            self.idle += (stream,)
        # Not before: what is queued, or closes the executor, while the stream is not idle is left to this thread.
        if self.queue:
            self.dispatch()
        if self.closed:
            stream.ring()

    def retire(self, stream: LedStream) -> bool:
        """Whether the leader ends here: nothing is queued, nobody has the stream, and no task can come."""
        with self.mutex:
            if not self.closed or stream not in self.idle or stream.flight[0] != runner.LANDED:
                return False
            self.idle.remove(stream)
            return True

    def leave(self) -> None:
        """A leader ends, and the threads of its stream have ended."""
        with self.mutex:
            self._leading -= 1
            is_last = self._leading == 0
        if is_last:
            self._end()

    def _end(self) -> None:
        """Calls `ended`, unless somebody did."""
        with suppress(IndexError):
            ended = self._ended.pop()
            ended()

    def withdraw(self, task: Task) -> bool:
        """Takes a task out of the queue; False when it has begun. True also for one that never got there."""
        with self.mutex:
            if task in self.queue:
                self.queue.remove(task)
                return True
            return not task.placed

    def cancel(self, task: Task) -> None:
        task.cancellation.set()
        with self.mutex:
            queued = task in self.queue
            if queued:
                self.queue.remove(task)
        if queued:
            task._over(CancelledError("The inference was cancelled before it began."))
            task._release()

    def abandon(self) -> None:
        """Lets the leaders end when the queue is empty. Takes no lock: the garbage collector calls it, at any point."""
        self.closed = True
        for stream in self.streams:
            stream.close()
        if self._ended and self._is_over():
            self._end()

    def _is_over(self) -> bool:
        """Whether all that is left to the leaders is to end; sure only where no work can come."""
        working = any(stream.flight[0] != runner.LANDED for stream in self.streams)
        return not self.queue and not working and len(self.idle) == len(self.streams)

    def close(self, cancel: bool) -> None:
        cancelled: list[Task] = []
        with self.mutex:
            if cancel:
                cancelled += self.queue
                self.queue.clear()
            self.abandon()
        for task in cancelled:
            task._over(CancelledError("The compiled model was released before this inference began."))
            task._release()

    def join(self, deadline: float | None = None) -> bool:
        """Waits for the leaders, and they for their workers; False when some are left at the deadline."""
        if self.is_forked:
            return True
        leaders = [stream.leader for stream in self.streams if stream.leader is not None]
        for leader in leaders:
            leader.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(leader.is_alive() for leader in leaders)

    def interrupt(self) -> None:
        self.close(cancel=True)
        for stream in self.streams:
            stream._group.interrupt()

    def forked(self) -> None:
        self.mutex = threading.Lock()
        self.is_forked = True


def lead(core: Core, stream: LedStream, place: tuple[str, int | None, frozenset[int]], ready: SimpleQueue[str]) -> None:
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
        task = core.recalled(stream) if stream.was_recalled else stream.take()
        while task is not None:
            _serve(core, stream, task)
            following = core.next(stream)
            if following is None and not core.closed:
                finished = task._address, task._signals
            else:
                task._release()
            task = following
        if core.closed and core.retire(stream):
            happen(finished[1])
            stream._group.stop()
            core.leave()
            return


def _serve(core: Core, stream: LedStream, task: Task) -> None:
    """Executes what is left of a task and calls its done()."""
    error: BaseException | None = None
    try:
        task._finish(stream)
    except BaseException as raised:
        error = raised
    identity = threading.get_ident()
    core.serving[identity] = stream
    task._over(error)
    del core.serving[identity], error
