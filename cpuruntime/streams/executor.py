"""Streams with leader threads, and the queue in front of them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import accumulate
from queue import SimpleQueue
from typing import Any

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.host.affinity import allowed_cpus, is_stream_thread
from cpuruntime.streams import priorities
from cpuruntime.streams.base import Executor, lifetimes
from cpuruntime.streams.call import Call, Varying
from cpuruntime.streams.handover import give_back, hand_over
from cpuruntime.streams.inline import InlineExecutor
from cpuruntime.streams.job import Job
from cpuruntime.streams.led_stream import LedStream
from cpuruntime.streams.native import runner
from cpuruntime.streams.scheduler import Scheduler, lead
from cpuruntime.streams.task import Notification, Stream, Task
from cpuruntime.streams.thread_group import QUICK, ThreadGroup

log = logging.getLogger("cpuruntime")

HAND_OVER = 4_000
"""Nanoseconds that it takes to hand a task over to a leader, about."""


def create_executor(
    num_streams: int,
    threads_per_stream: int | Sequence[int] = 1,
    cpus: Sequence[int] | None = None,
    pin: bool = True,
    ended: Callable[[], None] | None = None,
    level: int = priorities.MEDIUM,
) -> Executor:
    """An executor with `num_streams` streams of `threads_per_stream` threads each, or of as many as its items say.

    Without streams every task is executed on the caller's thread. See StreamExecutor for the other arguments.
    """
    if num_streams == 0:
        return InlineExecutor(level)
    return StreamExecutor(num_streams, threads_per_stream, cpus, pin, ended, level)


class StreamExecutor(Executor):
    """`num_streams` groups of `threads_per_stream` threads; each executes one task at a time.

    threads_per_stream: a number for all of them, or one for each.
    cpus: the processors to use, best first; the allowed ones by default. With `pin` each thread runs on one of
    them only, those of the first stream on the first ones, and no two threads share a processor; if there are too few
    processors no thread is pinned, since a pinned stream could wait for a busy processor while another is idle.
    ended: called once the streams have nothing left to do for good, on any thread, also in a finaliser.
    level: the priority among the executors of the process, one of `claims`. Between the steps of their jobs threads
    give way on processors where work of a higher level runs; all of them, if that is not pinned.

    Threads are named cpurt-s0t0, cpurt-s0t1..., and cpurt-cb0... those of callbacks. The executor stops when it is
    dropped, and at the end of the process.
    """

    def __init__(
        self,
        num_streams: int,
        threads_per_stream: int | Sequence[int] = 1,
        cpus: Sequence[int] | None = None,
        pin: bool = True,
        ended: Callable[[], None] | None = None,
        level: int = priorities.MEDIUM,
    ):
        sizes = [threads_per_stream] * num_streams if isinstance(threads_per_stream, int) else list(threads_per_stream)
        if num_streams < 1 or len(sizes) != num_streams or min(sizes) < 1:
            raise InvalidArgumentError(
                f"{num_streams} streams of {threads_per_stream} threads: there must be at least one of each."
            )
        self.unpinned: list[str] = []
        processors = list(dict.fromkeys(cpus or sorted(allowed_cpus())))
        crowded = len(processors) < sum(sizes)
        shares = self._shares(sizes, processors, pin)
        scheduler = self._scheduler = Scheduler(ended)
        self.streams: Sequence[Stream] = scheduler.streams
        self._finalizer = weakref.finalize(self, scheduler.abandon)
        self._finalizer.atexit = False
        lifetimes.add(scheduler)
        try:
            for index, (threads, share) in enumerate(zip(sizes, shares)):
                group = ThreadGroup(threads, share, f"cpurt-s{index}", crowded, level)
                self.unpinned += group.unpinned
                self._start(LedStream(index, group))
            priorities.enter(level)
            scheduler.level = level
        except BaseException:
            self.stop()
            raise

    def _shares(self, sizes: Sequence[int], cpus: list[int], pin: bool) -> list[list[int] | None]:
        """The processors of each stream, None for a stream that is not pinned."""
        if pin and len(cpus) < sum(sizes):
            each = "/".join(map(str, sorted(set(sizes))))
            reason = f"threads are not pinned: {len(sizes)} streams of {each} threads need more than {len(cpus)} CPUs"
            self.unpinned.append(reason)
            log.warning("%s", reason)
        elif pin:
            ends = list(accumulate(sizes))
            return [cpus[end - size : end] for size, end in zip(sizes, ends)]
        return [None] * len(sizes)

    def _start(self, stream: LedStream) -> None:
        ready: SimpleQueue[str] = SimpleQueue()
        place = (f"cpurt-s{stream.index}t0", stream.cpus[0] if stream.cpus else None, allowed_cpus())
        leader = threading.Thread(target=lead, args=(self._scheduler, stream, place, ready), name=place[0], daemon=True)
        leader.start()
        stream.leader = leader
        self._scheduler.add(stream)
        if reason := ready.get():
            self.unpinned.append(reason)
            log.warning("%s", reason)

    def submit(self, task: Task, function: Callable[[], None] | None = None) -> bool:
        scheduler = self._scheduler
        pool = scheduler.pool
        left = scheduler.again.run(task._address, HAND_OVER)
        if left is not None:
            task._ran_again(left)
            if function is not None:
                self.notify(task, function)
            return not left
        before = task._pending
        notifications: tuple[Notification, ...] = ()
        if (task.deadline or function is not None) and not pool.threads:
            self.start_pool()
        try:
            # No interrupt loses a stream or a task: see streams/handover.py.
            with scheduler.mutex:
                if scheduler.closed:
                    scheduler.check()
                task._submitted()
                if function is not None:
                    notifications = (task._notify_pool(pool.address, function),)
                if scheduler.queue or not scheduler.lend(task):
                    scheduler.enqueue(task, notifications)
            stream = task._stream
            if stream is not None:
                task._begin(stream)
                hand_over(stream, task, scheduler.idle, pool.waiting, notifications)
            if scheduler.queue:
                scheduler.dispatch()
        except BaseException:
            if task._pending != before:
                if task._stream is not None:
                    give_back(task._stream, task, scheduler)
                if not task.placed:
                    task._release()
                scheduler.dispatch()
            raise
        return False

    def run(self, task: Task) -> None:
        scheduler = self._scheduler
        left = scheduler.again.run(task._address, QUICK)
        if left is not None:
            task._ran_again(left)
            if left:
                task.check()
            return
        task.control.switch[0] = 0
        task._stream = None
        task.taken = 0
        try:
            with scheduler.mutex:
                if scheduler.closed:
                    scheduler.check()
                if not scheduler.queue:
                    scheduler.lend(task)
            stream = task._stream
            if stream is not None:
                stream._pin_caller = True
                task._execute(stream)
                return
        finally:
            if task._stream is not None:
                try:
                    give_back(task._stream, task, scheduler)
                except BaseException:
                    give_back(task._stream, task, scheduler)
                    raise
        self._run_later(task)

    def infer_again(self, task: Task, call: Call, varying: Varying | None = None) -> Callable[..., Any] | None:
        return self._scheduler.again.infer(task._address, call, QUICK, HAND_OVER, task, varying)

    def _run_later(self, task: Task) -> None:
        """Queues the task and waits for it."""
        queued = _Queued(task)
        try:
            self.submit(queued)
            queued.wait()
        except BaseException:
            if not self._scheduler.withdraw(queued):
                self._finish(queued)
            raise
        task.taken = queued.taken
        error = queued.error
        if error is not None:
            raise error

    def _finish(self, task: Task) -> None:
        """Waits for a task that works on its caller's memory; an interrupt ends it at its next step."""
        while not (task.is_over or self._scheduler.is_forked):
            try:
                task.wait()
            except BaseException:
                task.control.cancel()

    def cancel(self, task: Task) -> None:
        self._scheduler.cancel(task)

    def coalesce(self, most: int, choose: Callable[[Sequence[Task]], int]) -> list[Task]:
        return self._scheduler.coalesce(most, choose)

    def notify(self, task: Task, function: Callable[[], None]) -> None:
        pool = self._scheduler.pool
        pool.waiting.append(task._notify_pool(pool.address, function))
        if not pool.threads:
            self.start_pool()
        # By an atomic operation, so that the leader sees it or this thread sees that the task is over.
        task._notify(task._address + runner.NOTIFIES, 0, 0)
        if task.is_over:
            pool.notify()
            if pool.has_ended:
                pool.call_rest()

    def start_pool(self) -> None:
        """Starts the threads that call back, once."""
        scheduler = self._scheduler
        pinned = [cpu for stream in scheduler.streams for cpu in stream.cpus or ()]
        scheduler.pool.start(scheduler, pinned, sum(stream.threads for stream in scheduler.streams))

    def stop(self, cancel: bool = False, wait: bool = True) -> None:
        self._scheduler.close(cancel)
        if wait and not is_stream_thread():
            self._scheduler.join()


class _Queued(Task):
    """Another task, executed by a stream's thread while the caller waits."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.listen_to(task.control)

    def begin(self, stream: Stream) -> Job | None:
        job = self.task.begin(stream)
        self.whole, self.memory = self.task.whole, self.task.memory
        return job

    def resume(self, stream: Stream) -> Job | None:
        return self.task.resume(stream)
