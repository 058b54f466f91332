"""The callback pool: threads that call users' functions after inferences, so that no stream waits for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

import numpy as np

from cpuruntime.host.affinity import allowed_cpus, enter_caller
from cpuruntime.streams.memory import aligned_bytes, holding_the_gil, notifier
from cpuruntime.streams.native import callbacks, signals
from cpuruntime.streams.task import Notification

log = logging.getLogger("cpuruntime")

MOST = 32
"""Threads that call back for an executor; while all of them are in callbacks further ones wait. Arbitrary."""

_LINGER = 50_000  # nanoseconds a listener with a processor of its own spins for the next end of a task
_LONG = 60_000_000_000  # nanoseconds
_BUSY = callbacks.BUSY // 4


class Queue(Protocol):
    """The tasks to come, as the listener sees them."""

    @property
    def is_finished(self) -> bool:
        """Whether no task is over any more."""

    alarm: int
    """When to `expire`, on the clock of perf_counter_ns; 0 for never."""

    def expire(self) -> int:
        """Ends tasks whose deadline has passed; returns the alarm."""


class CallbackPool:
    """Threads of which one, the listener, waits for the end of tasks and calls functions then.

    When that takes longer than callbacks.GRACE another thread becomes the listener; from then on each listener makes
    room for another before it calls back, until callbacks are quick again. So a slow callback delays others by GRACE
    at most, unless MOST of them are slow at a time. native/callbacks.py has what the threads do meanwhile.

    Attributes:
        address: of the signal to the listener.
        waiting: what to call at the end of tasks; put there before the signal is notified.
        has_ended: whether no thread looks at `waiting` any more.
    """

    def __init__(self) -> None:
        self._words = aligned_bytes(callbacks.WORDS_BYTES)
        self.address: int = self._words.ctypes.data
        self._numbers = self._words.view(np.int32).data
        self.waiting: deque[Notification] = deque()
        self.threads: list[threading.Thread] = []
        self._ready: deque[Callable[[], None]] = deque()
        self._queue: Queue | None = None
        self._places: tuple[frozenset[int], frozenset[int]] | None = None
        self._mutex = threading.Lock()
        self._listener = 0
        self._idle = 0
        self._slow = self.has_ended = False
        self._begin_call = holding_the_gil(callbacks.begin_call)

    def start(self, queue: Queue, pinned: Collection[int], threads: int) -> None:
        """Starts the threads unless it has been done, for streams of so many `threads` in all.

        They avoid the processors `pinned` if there are others.
        """
        with self._mutex:
            if not self.threads:
                inherited = allowed_cpus()
                self._places = (inherited - frozenset(pinned) or inherited, inherited)
                # Where streams run a listener that spins has had its share when a task ends, and waits its turn.
                self._words.view(np.int64)[signals.VALUE // 8] = _LINGER if threads < len(inherited) else 0
                self._queue = queue
                self._add_thread()

    def notify(self) -> None:
        """Makes the listener look again. Safe in a finaliser."""
        notifier()(self.address, 0, 0)

    def join(self, deadline: float | None = None) -> bool:
        """Waits until the threads have ended, which they do when the queue is finished; False at the deadline."""
        joined = 0
        while True:
            with self._mutex:
                threads = self.threads[joined:]
            if not threads:
                return True
            for thread in threads:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
                if thread.is_alive():
                    return False
            joined += len(threads)

    def _add_thread(self) -> None:
        """The caller has the mutex."""
        assert self._places is not None
        name = f"cpurt-cb{len(self.threads)}"
        thread = threading.Thread(target=self._serve, args=(name, *self._places), name=name, daemon=True)
        self.threads.append(thread)
        try:
            thread.start()
        except BaseException:
            if thread.ident is None:
                self.threads.remove(thread)
            raise

    def _serve(self, name: str, cpus: frozenset[int], inherited: frozenset[int]) -> None:
        """A thread's life: in turn it is the listener, makes a slow call, or is idle."""
        enter_caller(name, cpus, inherited)
        was_idle = False
        while not self.has_ended:
            with self._mutex:
                self._idle -= was_idle
                listens = not self._listener or self._numbers[_BUSY] != 0
                if listens:
                    self._numbers[_BUSY] = 0
                    self._listener = threading.get_ident()
                    if not self._idle and len(self.threads) < MOST:
                        with suppress(RuntimeError):  # no more threads: it listens without a guard
                            self._add_thread()
                else:
                    self._idle += 1
            was_idle = not listens
            if listens:
                self._listen()
            else:
                callbacks.stand_by.entry(self.address, 0, 0)
        self.call_rest()

    def call_rest(self) -> None:
        """Calls what was added when no thread looked any more; all tasks are over then."""
        self._collect()
        while self._ready:
            try:
                function = self._ready.popleft()
            except IndexError:  # another thread was faster
                return
            call_back(function)

    def _listen(self) -> None:
        """Calls back until another thread is the listener or nothing more comes."""
        while (function := self._next()) is not None:
            stays = not (self._slow and self._makes_room())
            if stays:
                self._begin_call(self.address, 0, 0)
            begin = time.perf_counter_ns()
            call_back(function)
            del function
            self._slow = time.perf_counter_ns() - begin > callbacks.GRACE
            with self._mutex:
                if self._listener != threading.get_ident():
                    return
                self._numbers[_BUSY] = 0
        self.has_ended = True
        holding_the_gil(callbacks.offer)(self.address, 1, 0)

    def _makes_room(self) -> bool:
        """Gives the listener's part to another thread, if there is one or may be one more."""
        with self._mutex:
            if not self._idle and len(self.threads) >= MOST:
                return False
            self._listener = 0
            if not self._idle:
                with suppress(RuntimeError):
                    self._add_thread()
                    return True
                self._listener = threading.get_ident()
                return False
        holding_the_gil(callbacks.offer)(self.address, 0, 0)
        return True

    def _next(self) -> Callable[[], None] | None:
        """What is to be called next, when it is time; None when nothing more comes. Waits without the GIL."""
        queue = self._queue
        assert queue is not None
        while True:
            heard = self._numbers[0]
            # Before looking what there is: nothing is added once it is finished.
            is_finished = queue.is_finished
            if not self._ready:
                self._collect()
            alarm = queue.alarm and queue.expire()
            if self._ready:
                return self._ready.popleft()
            if is_finished and not self.waiting:
                return None
            nap = _LONG if not alarm else max(0, alarm - time.perf_counter_ns())
            signals.wait.entry(self.address, heard, nap)

    def _collect(self) -> None:
        """Takes note of the tasks that are over."""
        waiting = self.waiting
        for _ in range(len(waiting)):
            try:
                notification = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            count, pending, function = notification
            if count[0] != pending:
                self._ready.append(function)
            else:
                waiting.append(notification)


def call_back(function: Callable[[], None]) -> None:
    """Calls a function that does not raise; logs it if it does all the same."""
    try:
        function()
    except BaseException:
        log.exception("the callback of an inference raised")
