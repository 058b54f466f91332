"""The one thread of a model that owns its queue and its replicas: others post to it what is to be done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from time import perf_counter_ns
from typing import Any

import numpy as np

from cpuruntime.devices.completion import Completion, call_elsewhere
from cpuruntime.devices.interface import Terms
from cpuruntime.devices.ray.cluster import Cluster, brief
from cpuruntime.devices.ray.fleet import RESTARTED, Fleet
from cpuruntime.devices.ray.links import Load, Wish
from cpuruntime.devices.ray.replica import UNLOADED, Sent
from cpuruntime.devices.ray.schedule import RETRIES, Call, Item, Scheduler
from cpuruntime.errors import (
    CancelledError,
    DeadlineExceededError,
    DeviceUnavailableError,
    Error,
    OverloadedError,
    printable,
)
from cpuruntime.host import forks

POLL = 1.0
"""Seconds between two looks at the cluster's nodes."""

PATIENCE = 60_000_000_000
"""Nanoseconds after which what waits fails where there is no replica that serves."""

CALLBACKS = 4
"""Threads for users' callbacks."""

_RANKS = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}


class Inference(Item, Completion):
    """One inference: its inputs until it is over, and where its results go.

    Attributes:
        moments: when it was sent, began and ended; `transferred`: how long it was on the way.
        call: what it travelled in last, as number `index`.
    """

    def __init__(
        self, arrays: list[np.ndarray], terms: Terms, deliver: Callable[[Any], None] | None, started: int
    ) -> None:
        super().__init__(_RANKS[terms.priority], terms.deadline, started)
        self.arrays = arrays
        self.priority = terms.priority.value
        self.deliver = deliver
        self.moments = (0, 0, 0)
        self.transferred = 0
        self.profile: list[Any] = []
        self.call: Call | None = None
        self.index = 0

    def sent(self, now: int) -> Sent:
        """What travels to a replica; of the deadline the time that is left."""
        return self.priority, max(1, self.deadline - now) if self.deadline else 0, self.arrays

    def end(self, error: BaseException | None) -> None:
        """It is over; a second call does nothing."""
        if not self.is_over:
            self.arrays, self.deliver, self.call = [], None, None  # it keeps the model open
            self.complete(error)


class Loop:
    """Runs until it is closed and what was started before is over. Any thread may post to it.

    It does not refer to the model, which so can be dropped.
    """

    def __init__(self, name: str, cluster: Cluster, scheduler: Scheduler, wish: Wish, load: Load) -> None:
        self.name = printable(name)
        self.generation = forks.generation
        self.scheduler = scheduler
        self.fleet = Fleet(cluster, scheduler, wish, load, self.post, self._at, self._lose)
        self.settled = threading.Event()
        self.callbacks = ThreadPoolExecutor(CALLBACKS, "cpuruntime-ray-callback")
        self._cluster = cluster
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()  # its `put` is safe in finalizers
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._closing = False
        self._left: DeviceUnavailableError | None = None
        self._served = perf_counter_ns()
        self._ended = threading.Event()
        threading.Thread(target=self._serve, name="cpuruntime-ray", daemon=True).start()
        threading.Thread(target=self._watch, name="cpuruntime-ray-nodes", daemon=True).start()

    def post(self, function: Callable[[], None]) -> None:
        """Have a function called on the loop's thread."""
        self._events.put(function)

    def submit(self, inference: Inference) -> None:
        """Run an inference as soon as a replica takes it."""
        self._events.put(partial(self._submit, inference))

    def cancel(self, inference: Inference) -> None:
        """End an inference that waits; ask the replica of one that travelled."""
        self._events.put(partial(self._cancel, inference))

    def close(self) -> None:
        """Refuse further inferences; the replicas go when what was started is over. Takes no lock."""
        self._events.put(self._close)

    def call_back(self, function: Callable[[], None]) -> None:
        """Call a user's function on a thread of the pool, or of its own after the pool has ended."""
        try:
            self.callbacks.submit(function)
        except RuntimeError:
            call_elsewhere(function, "cpuruntime-ray-callback")

    def _watch(self) -> None:
        """Look at the cluster's nodes now and then."""
        while not self._ended.is_set():
            try:
                self.post(partial(self.fleet.update, self._cluster.nodes(), self._cluster.named()))
            except Exception:  # the head does not answer
                self.post(self._look)
            self._ended.wait(POLL)

    def _look(self) -> None:
        """The head did not answer, or the process has left the cluster: then all requests fail, later ones too."""
        try:
            self._cluster.check()
        except DeviceUnavailableError as error:
            self._left = error
            calls = [call for replica in self.scheduler.replicas.values() for call in replica.calls]
            for call in calls:
                self.scheduler.returned(call)
            self.fleet.forget(error)
            for item in (*self.scheduler.withdraw_all(), *(item for call in calls for item in call.items)):
                item.end(error)

    def _at(self, when: int, function: Callable[[], None]) -> None:
        heappush(self._timers, (when, next(self._numbers), function))

    def _serve(self) -> None:
        while not self._closing or self.scheduler.waiting or self._is_awaited():
            self._take_events()
            now = perf_counter_ns()
            while self._timers and self._timers[0][0] <= now:
                heappop(self._timers)[-1]()
            for item in self.scheduler.expired(now):
                self._expire(item)
            self.fleet.step()
            self._send()
            if self.fleet.is_settled:
                self.settled.set()
            if self.fleet.ready:
                self._served = now
            elif (self._closing and not self.fleet.links) or now - self._served > PATIENCE:
                self._fail_all()
        self._ended.set()
        self.fleet.close()
        self.settled.set()
        self.callbacks.shutdown(wait=False)
        self._take_events(wait=False)

    def _is_awaited(self) -> bool:
        """Whether a call has an inference that is not over: a replica that hangs may have none."""
        calls = [call for replica in self.scheduler.replicas.values() for call in replica.calls]
        return self.scheduler.ongoing > sum(item.is_over for call in calls for item in call.items)

    def _take_events(self, wait: bool = True) -> None:
        """Handle all events there are; without any wait for one, or until something is due."""
        try:
            event = self._events.get(wait, self._until_due())
            while True:
                event()
                event = self._events.get_nowait()
        except Empty:
            return

    def _until_due(self) -> float | None:
        """Seconds until the next timer or deadline; None without one."""
        times = [time for time in (self.scheduler.next_deadline(), *(one[0] for one in self._timers[:1])) if time]
        if not times:
            return None
        return min(max(0.0, (min(times) - perf_counter_ns()) / 1e9), threading.TIMEOUT_MAX)

    def _submit(self, inference: Inference) -> None:
        if self._closing:
            inference.end(Error(f"Model '{self.name}' on device RAY is closed; compile it again."))
            return
        if self._left is not None:
            inference.end(self._left)
            return
        reason = self.scheduler.submit(inference, perf_counter_ns())
        if reason is not None:
            inference.end(OverloadedError(f"Inference refused: {reason}. Send less, or add replicas."))

    def _send(self) -> None:
        """Make the calls that replicas take."""
        while (call := self.scheduler.next_call(perf_counter_ns())) is not None:
            link = self.fleet.links[call.replica.key]
            for index, item in enumerate(call.items):
                item.call, item.index = call, index
            try:
                sent = [item.sent(call.began) for item in call.items]
                self._cluster.call(link.actor, "infer", (call.number, sent), partial(self._answered, call))
            except Exception as error:
                self.scheduler.returned(call)
                text = f"The inference could not be sent to a replica: {brief(error)}"
                for item in call.items:
                    item.end(DeviceUnavailableError(text))

    def _answered(self, call: Call, value: Any, error: BaseException | None) -> None:
        """On a thread of Ray's."""
        self._events.put(partial(self._receive, call, value, error, perf_counter_ns()))

    def _receive(self, call: Call, value: Any, error: BaseException | None, now: int) -> None:
        replica = call.replica
        if call not in replica.calls:  # the replica was given up before
            return
        if error is not None or value == UNLOADED:
            cause = error or DeviceUnavailableError(RESTARTED)
            self._lose(call, cause)
            is_known = self.scheduler.replicas.get(replica.key) is replica  # not one that has failed before
            if is_known and (error is None or self._cluster.is_loss(error)):
                self.fleet.fail(replica.key, cause)
            return
        answers, taken = value
        self.scheduler.completed(call, now, taken, [answer[2] for answer in answers])
        away = max(0, now - call.began - taken)
        for item, answer in zip(call.items, answers):
            if not item.is_over:
                _finish(item, answer, call.began, away, taken)

    def _lose(self, call: Call, cause: BaseException) -> None:
        """A call was lost with its replica: its requests run elsewhere."""
        _, given_up = self.scheduler.lost(call)
        for item in given_up:
            item.end(DeviceUnavailableError(
                f"The inference of model '{self.name}' was lost on {RETRIES + 1} replicas in turn: {brief(cause)}"
            ))  # fmt: skip

    def _cancel(self, inference: Inference) -> None:
        if inference.is_over:
            return
        if self.scheduler.withdraw(inference):
            inference.end(CancelledError(f"The inference of model '{self.name}' was cancelled."))
            return
        self._cancel_there(inference)

    def _cancel_there(self, inference: Inference) -> None:
        """Ask a replica to end an inference early; best effort."""
        call = inference.call
        link = None if call is None else self.fleet.links.get(call.replica.key)
        if call is not None and link is not None:
            self.fleet.tell(link, "cancel", (call.number, inference.index))

    def _expire(self, item: Any) -> None:
        self._cancel_there(item)
        what = "was on a replica" if item.call else "waited for a replica"
        item.end(DeadlineExceededError(f"The deadline passed while the inference of model '{self.name}' {what}."))

    def _close(self) -> None:
        self._closing = True

    def _fail_all(self) -> None:
        """There is no replica for what waits."""
        reasons = "; ".join(self.fleet.problems())
        for item in self.scheduler.withdraw_all():
            item.end(DeviceUnavailableError(
                f"Model '{self.name}' has had no replica on the Ray cluster for a while: {reasons or 'none is left'}."
            ))  # fmt: skip


def _finish(item: Any, answer: Any, began: int, away: int, taken: int) -> None:
    """An inference is over: take its results and times."""
    error, outputs, executed, profile = answer
    if error is None:
        try:
            item.deliver(outputs)
        except Exception as raised:
            error = raised
    now = perf_counter_ns()
    item.profile, item.transferred = profile, away
    item.moments = began, max(began, now - executed), now
    item.end(error)
