"""The queue of a model's inferences, from which groups go to the device as batches."""

from __future__ import annotations

import threading
from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter_ns
from typing import Protocol

from cpuruntime.devices.batch.inference import Inference, neighbours
from cpuruntime.devices.batch.window import Window
from cpuruntime.devices.batch.worker import Worker
from cpuruntime.devices.interface import DeviceModel, DeviceRequest, Terms
from cpuruntime.errors import CancelledError, DeadlineExceededError, Error, printable
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.properties.hint import Priority

PASSED = 3
"""For neighbours an inference is passed over until it has waited as long as so many of the largest batches take."""
SHIFT = 8
"""Arbitrary."""

_PRIORITIES = (Priority.HIGH, Priority.MEDIUM, Priority.LOW)


class _Group:
    """Inferences that the device runs together: with a `worker`, or a single one by its own request."""

    def __init__(self, members: list[Inference], worker: Worker | None) -> None:
        self.members = members
        self.worker = worker
        self.request: DeviceRequest = members[0].request.single if worker is None else worker.request
        self.size = 1 if worker is None else worker.size
        self.is_over = False
        self.is_timed = False

    @property
    def terms(self) -> Terms:
        """The highest priority, and the latest deadline where all members have one."""
        if self.worker is None:
            return self.members[0].terms
        deadlines = [one.terms.deadline for one in self.members]
        rank = min(one.order[0] for one in self.members)
        return Terms(_PRIORITIES[rank], max(deadlines) if all(deadlines) else 0)

    def cancel_if_all_are(self) -> None:
        """Ask the device to end the group when nobody needs a result of it."""
        if all(one.cancelled for one in self.members):
            self.request.cancel()


class Taker(Protocol):
    """What runs inferences on its caller's thread; `has_slot` while the device is its own for one."""

    has_slot: bool


class Batcher:
    """Runs the inferences of one model, alone or in batches, as the window says. May be used from several threads.

    The device has as many groups as it runs at a time. As many full groups again are handed over ahead, so that it
    never waits for the next, unless some inferences are more urgent than others.

    Nothing is lost: an inference waits, or a group has it, or it is over. No device is called with the lock held.

    Args:
        single: the model for inferences alone; it and the others are closed after the last inference.
        models: by the size of their batch; those of sizes that are not used any more are taken out.
        workers: likewise, twice as many of each as the device runs at a time.
        profiled: whether requests have the times of their steps.
    """

    def __init__(
        self,
        single: DeviceModel,
        models: dict[int, DeviceModel],
        workers: dict[int, list[Worker]],
        window: Window,
        profiled: bool,
    ) -> None:
        self.name: str = single.properties["NETWORK_NAME"]
        self._single = single
        self._models = models
        self.window = window
        self.closed = False
        self.counts = dict.fromkeys(window.times, 0)
        """How many groups of each size were run, those of 1 without the ones on a caller's thread."""
        self._profiled = profiled
        self._workers = workers
        self._free = window.slots  # below 0 where groups were handed over ahead
        self._generation = forks.generation
        self._lock = threading.Lock()
        self._waiting: list[Inference] = []
        self._running: set[_Group] = set()
        self._active = 0
        self._copied = 0  # full groups since the latest one of neighbours
        self._due = 0  # when the alarm rings
        self._local = threading.local()
        self._alarms: SimpleQueue[int] = SimpleQueue()  # its `put` is safe in finalizers
        forks.objects.add(self)
        threading.Thread(target=self._serve_alarms, name="cpuruntime-batch", daemon=True).start()

    @uninterrupted
    def take(self, taker: Taker) -> None:
        """Lets the caller's thread run one inference if the device is free for it: then the taker `has_slot`.

        After the inference `give_back` is called, also after an interrupt.
        """
        forks.check(self._generation)
        with self._lock:
            if self._waiting or self._free <= 0 or self.closed or self.window.wait(1, self._free):
                return
            self._active += 1
            self._free -= 1
            self.window.arrive(perf_counter_ns(), self._active)
            taker.has_slot = True

    @uninterrupted
    def give_back(self, taker: Taker) -> None:
        """The inference on the caller's thread is over."""
        with self._lock:
            taker.has_slot = False
            self._active -= 1
            groups = self._release(None, ())
        self._hand_over(groups)
        self._close_if_over()

    @uninterrupted
    def submit(self, inference: Inference) -> None:
        """Run an inference when its group is complete; raises Error once closed, with nothing queued."""
        forks.check(self._generation)
        with self._lock:
            if self.closed:
                raise Error(f"Model '{printable(self.name)}' is closed; compile it again.")
            inference.is_submitted = True
            self._active += 1
            self.window.arrive(inference.arrived, self._active)
            insort(self._waiting, inference)
            groups = self._match()
        inference.watch_deadline(self._expire)
        self._hand_over(groups)
        self._close_if_over()

    @uninterrupted
    def cancel(self, inference: Inference) -> bool:
        """End an inference that waits, or drop its result when its group is over: whether it was not over."""
        if inference.is_over:
            return False
        inference.cancelled = True
        if not inference.is_submitted:  # an interrupt struck before
            inference.end(CancelledError("An interrupt struck before the inference began."))
            return False
        if not self._withdraw(inference, _cancelled(self.name)):
            with self._lock:
                groups = [group for group in self._running if inference in group.members]
            for group in groups:
                group.cancel_if_all_are()
        return True

    def close(self) -> None:
        """Refuse further inferences; the models are closed after the last one that was submitted. Takes no lock."""
        self.closed = True
        self._alarms.put(1)
        self._close_if_over()

    def _forked(self) -> None:
        """In a child nothing runs any more."""
        self._lock = threading.Lock()
        running = [one for group in self._running for one in group.members]
        for inference in (*self._waiting, *running):
            inference.end(forks.threads_are_gone())

    def _serve_alarms(self) -> None:
        """Let groups go that are waited for no longer, until the model is closed."""
        due = 0
        while due or not self.closed:
            try:
                due = self._alarms.get(timeout=max(0, due - perf_counter_ns()) / 1e9 if due else None)
            except Empty:
                due = 0
                with self._lock:
                    self._due = 0
                    groups = self._match()
                self._hand_over(groups)
                del groups  # which keep the model open

    def _expire(self, inference: Inference) -> None:
        self._withdraw(inference, _late(self.name))

    def _withdraw(self, inference: Inference, error: Error) -> bool:
        """End an inference if it waits: whether it did."""
        with self._lock:
            if inference not in self._waiting:
                return False
            self._waiting.remove(inference)
            self._active -= 1
        inference.end(error)
        self._close_if_over()
        return True

    def _close_if_over(self) -> None:
        if self.closed and self._active == 0:
            for model in (self._single, *self._models.copy().values()):
                model.close()

    def _match(self) -> list[_Group]:
        """The groups that are to go now; the lock is held."""
        groups: list[_Group] = []
        now = perf_counter_ns()
        while self._waiting and self._free > -self.window.slots:
            ready, size = self._waiting[:1], 1
            if not ready[0].alone:
                ready = [one for one in self._waiting if not one.alone]
            if self._free > 0 and not ready[0].alone:
                if self._is_worth_waiting(ready, now):
                    break
                size = self.window.size(len(ready), self._free)
            elif self._free <= 0:
                size = self.window.ahead()
                if len(ready) < size or not _are_alike(ready):
                    break
            members = self._members(ready, size, now)
            if not members:
                break
            size = min(size, len(members)) if len(ready) >= size else size
            self._waiting = [one for one in self._waiting if one not in members]
            self._free -= 1
            self.counts[size] += 1
            members.sort(key=lambda one: (id(one.request.slab), one.request.slot))
            group = _Group(members, self._workers[size].pop() if size > 1 else None)
            group.is_timed = self._free <= 0 and len(members) == size
            self._running.add(group)
            groups.append(group)
        return groups

    def _members(self, ready: list[Inference], size: int, now: int) -> list[Inference]:
        """The inferences that go as a batch of this size: neighbours where some are, since these share its memory.

        The first is passed over for a while only. After SHIFT groups that were copied a smaller group goes, and as long
        as that keeps the device busy no other but neighbours (empty where there are none): more of them are, then.
        """
        too_long = ready[0].arrived < now - PASSED * self.window.times[self.window.largest]
        if size == 1 or len(ready) < size or too_long or not _are_alike(ready):
            return ready[:size]
        found = neighbours(ready, size)
        if found:
            self._copied = 0
            return found
        self._copied += 1
        if self._copied == SHIFT:
            return ready[: max(one for one in self.window.times if one < size)]
        if self._copied > SHIFT and self._free <= 0:
            return []
        self._copied %= SHIFT
        return ready[:size]

    def _is_worth_waiting(self, ready: Sequence[Inference], now: int) -> bool:
        """Whether to wait for more than these, which an alarm then ends."""
        wait = 0 if self.closed else self.window.wait(len(ready), self._free)
        if not wait:
            return False
        until = min(self.window.latest + wait, min(one.arrived for one in ready) + self.window.limit)
        time = self.window.times[self.window.largest]
        until = min((until, *(one.terms.deadline - time for one in ready if one.terms.deadline)))
        if until <= now:
            self.window.miss()
            return False
        if not self._due:
            self._due = until
            self._alarms.put(until)
        return True

    def _hand_over(self, groups: Iterable[_Group]) -> None:
        """Start groups; one that ends at once lets this thread, which is here, start more."""
        queue: deque[_Group] | None = getattr(self._local, "queue", None)
        if queue is not None:
            queue.extend(groups)
            return
        queue = self._local.queue = deque(groups)
        try:
            while queue:
                self._start(queue.popleft())
        finally:
            self._local.queue = None
            for group in queue:  # after an interrupt
                self._over(group, CancelledError("An interrupt struck before the inference began."))

    def _start(self, group: _Group) -> None:
        function = partial(self._is_over, group)
        try:
            if group.worker is not None:
                group.worker.bind([one.request for one in group.members])
            else:
                group.members[0].request.times = None
            group.request.start(group.terms, function)
        except Exception as error:
            self._over(group, error)
        except BaseException as error:  # an interrupt, before the group was queued, or after
            if group.request.cancel():
                group.request.notify(function)
            else:
                self._over(group, error)
            raise
        group.cancel_if_all_are()

    def _is_over(self, group: _Group) -> None:
        error, _ = group.request.result()
        self._over(group, error)

    def _over(self, group: _Group, error: BaseException | None) -> None:
        """A group is over: its members are, or run once more, each alone, where it failed."""
        if group.is_over:
            return  # after an interrupt there may be two calls
        group.is_over = True
        if self._generation != forks.generation:
            return
        now = perf_counter_ns()
        if group.worker is not None:
            error = self._hand_out(group, error)
        again: list[Inference] = []
        over: list[tuple[Inference, BaseException | None]] = []
        for one in group.members:
            if group.worker is None:
                over.append((one, error))
            elif one.cancelled:
                over.append((one, _cancelled(self.name)))
            elif 0 < one.terms.deadline <= now:
                over.append((one, _late(self.name)))
            elif error is not None:
                one.alone = True
                again.append(one)
            else:
                over.append((one, None))
        moments = group.request.moments() if group.is_timed and error is None else None
        with self._lock:
            self._running.discard(group)
            useless = self.window.note(group.size, moments[2]) if moments else self.window.note(0, now)
            dropped = [self._models.pop(size) for size in useless]
            for size in useless:
                del self._workers[size]
            groups = self._release(group.worker, again)
            self._active -= len(over)
        for model in dropped:
            model.close()
        self._hand_over(groups)
        ended = [one for one, own in over if one.settle(own)]
        for one in ended:  # now that all are over: a thread that waits for any of them wakes once and finds all
            one.announce()
        self._close_if_over()

    def _hand_out(self, group: _Group, error: BaseException | None) -> BaseException | None:
        """Give members what the device has of their batch; the error that the members have for it."""
        assert group.worker is not None
        requests = [one.request for one in group.members]
        try:
            if error is None:
                group.worker.hand_out(requests)
            times = group.request.moments(), group.request.profiling() if self._profiled else []
        except Exception as raised:
            return raised
        for request in requests:
            request.times = times
        return error

    def _release(self, worker: Worker | None, again: Iterable[Inference]) -> list[_Group]:
        """The device is free for a group: those that go thereupon; the lock is held."""
        self._free += 1
        if worker is not None and worker.size in self._workers:
            self._workers[worker.size].append(worker)
        self.window.end(perf_counter_ns())
        for one in again:
            insort(self._waiting, one)
        return self._match()


def _are_alike(inferences: Sequence[Inference]) -> bool:
    """Whether all have the same priority and deadline."""
    return len({one.order[:2] for one in inferences}) == 1


def _cancelled(name: str) -> Error:
    return CancelledError(f"The inference of model '{printable(name)}' was cancelled.")


def _late(name: str) -> Error:
    return DeadlineExceededError(f"The deadline passed before the inference of model '{printable(name)}' was over.")
