"""The queue of inferences that several devices serve."""

from __future__ import annotations

import logging
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic, perf_counter_ns

from cpuruntime.devices.completion import call_elsewhere
from cpuruntime.devices.composed.members import Inference, Lender, Member, Worker, claim, free
from cpuruntime.devices.composed.policies import Policy
from cpuruntime.errors import CancelledError, DeadlineExceededError, Error, printable, runs_elsewhere
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.trace.recorder import mark

log = logging.getLogger("cpuruntime")


class Dispatcher:
    """Hands inferences to the members' workers, by a policy, and again to others where a device fails.

    Nothing is lost: an inference waits, or a worker has it, or it is over. No device is called with the lock held.
    A device is asked to call after an inference only where somebody waits for that: most are found to be over when
    their request is asked.

    Attributes:
        sole: the only device, to which requests go straight: its own queue has the same order, and none could run them
            again. None where there are several, or where not `goes_straight`.
    """

    def __init__(self, name: str, members: Iterable[Member], policy: Policy, goes_straight: bool = False) -> None:
        self.name = name
        self.members = [*members]
        self.policy = policy
        self.closed = False
        self.on_failure: Callable[[Member, BaseException], bool] | None = None
        """Called when a device failed in an inference, with the lock held: whether another one is on its way. Then the
        inference waits for `set_members` or `resume`, and devices that pause are not tried."""
        self._awaits = False
        self._generation = forks.generation
        self._lock = threading.Lock()
        self._waiting: list[Inference] = []
        self._unstarted = 0
        self._due = 0
        """When a pause ends for which a timer runs, on the clock of perf_counter_ns; 0 without one."""
        self._local = threading.local()
        self._goes_straight = goes_straight
        self.sole = self._only()
        forks.objects.add(self)

    def take(self, lender: Lender) -> None:
        """Makes a worker the lender's, `taken`, for an inference that the caller runs, unless it must wait.

        After the inference `give_back` is called, also after an interrupt.
        """
        forks.check(self._generation)
        now = perf_counter_ns()
        with self._lock:
            choice = None if self._waiting or self.closed else self.policy(self.members, 1, now)
            if choice is not None:
                claim(choice[0], next(iter(choice[0].idle)), now, lender)

    def give_back(self, lender: Lender, error: BaseException | None) -> None:
        """The inference of the lender's worker is over. Called again after an interrupt, does what is left."""
        worker = lender.taken
        if worker is None:
            return
        if error is None:
            taken = perf_counter_ns() - worker.began
            with self._lock:
                if not self._waiting and not worker.member.retired:
                    worker.member.note_success(taken)
                    free(worker, lender)
                    return
        self._give_to_others(lender, worker, error)

    @uninterrupted
    def _give_to_others(self, lender: Lender, worker: Worker, error: BaseException | None) -> None:
        self._hand_over(self._release(worker, error, None, lender)[0])

    def has_others(self, member: Member) -> bool:
        """Whether another device may run what this one did not."""
        return self._awaits or any(other is not member for other in self.members)

    @uninterrupted
    def submit(self, inference: Inference) -> None:
        """Run an inference as soon as the policy allows; raises Error once closed, with nothing queued."""
        forks.check(self._generation)
        now = perf_counter_ns()
        with self._lock:
            if self.closed:
                raise Error(f"Model '{printable(self.name)}' is closed; compile it again.")
            inference.is_submitted = True
            self._unstarted += 1
            choice = None if self._waiting else self.policy(self.members, 1, now)
            if choice is None:
                insort(self._waiting, inference)
                claimed = self._match()
            else:
                claimed = [choice[0].assign(inference, now)]
        if choice is not None and not inference.is_watched:
            self._start(claimed[0])
            return
        if inference.worker is None:
            inference.watch_deadline(self._expire)
            self._arm_all()
        self._hand_over(claimed)

    @uninterrupted
    def settle(self, inference: Inference) -> bool:
        """Whether an inference is over, after a look at its worker."""
        worker = inference.worker
        if worker is not None:
            turn = worker.turn  # first: what follows may be about a later inference, and is then ignored
            if worker.inference is inference and worker.started and not worker.armed and worker.request.is_over:
                self._is_over(worker, turn)
        return inference.is_over

    def wait(self, inference: Inference, timeout: float | None) -> bool:
        """Wait until an inference is over, at most for so many seconds: whether it is."""
        end = None if timeout is None else monotonic() + timeout
        while not inference.is_over:
            left = None if end is None else max(0.0, end - monotonic())
            worker = inference.worker
            if worker is None or not worker.started or worker.armed:
                inference.is_awaited = True  # first: `_start` looks at it after `started` is set
                self.watch(inference)
                return inference.wait(left)
            if not worker.request.wait(left):
                return False
            self.settle(inference)
        return True

    @uninterrupted
    def watch(self, inference: Inference) -> None:
        """Learn of the end of an inference without being asked: somebody is to be notified of it."""
        worker = inference.worker
        if worker is not None:
            self._arm(worker)

    @uninterrupted
    def cancel(self, inference: Inference) -> bool:
        """End an inference that waits, or ask its worker to: whether it was not over."""
        if self.settle(inference):
            return False
        inference.cancelled = True
        if not inference.is_submitted:  # an interrupt struck before
            inference.end(CancelledError("An interrupt struck before the inference began."))
            return False
        if not self._withdraw(inference, CancelledError(f"The inference of {self._named} was cancelled.")):
            worker = inference.worker
            if worker is not None and worker.started and worker.inference is inference:
                worker.request.cancel()
        return True

    @uninterrupted
    def set_members(self, members: Iterable[Member]) -> None:
        """Let these devices serve from now on; what others have begun they finish, then their models are closed."""
        with self._lock:
            kept = [*members]
            gone = [member for member in self.members if member not in kept]
            for member in gone:
                member.retired = True
            self.members = kept
            self.sole = self._only()
            self._awaits = False
            claimed = self._match()
            over = [member for member in gone if not member.busy]
            busy = [worker for member in gone for worker in member.busy]
        for member in over:
            member.model.close()
        for worker in busy:
            self._arm(worker)
        self._hand_over(claimed)
        self._close_if_started()

    @uninterrupted
    def resume(self) -> None:
        """No other device is on its way: those there are run what waits."""
        with self._lock:
            self._awaits = False
            claimed = self._match()
        self._hand_over(claimed)

    def close(self) -> None:
        """Refuse further inferences; the models are closed as soon as each that was submitted has started.

        Takes no lock.
        """
        self.closed = True
        self.sole = None
        self._close_if_started()

    def _only(self) -> Member | None:
        return self.members[0] if self._goes_straight and len(self.members) == 1 and not self.closed else None

    def count(self, member: Member) -> None:
        """An inference went straight to the sole member."""
        with self._lock:
            member.served += 1

    @property
    def _named(self) -> str:
        return f"model '{printable(self.name)}'"

    def _forked(self) -> None:
        """In a child nothing runs any more."""
        self._lock = threading.Lock()
        self._due = 0
        running = [worker.inference for member in self.members for worker in [*member.busy]]
        for inference in (*self._waiting, *filter(None, running)):
            inference.end(forks.threads_are_gone())

    def _expire(self, inference: Inference) -> None:
        error = DeadlineExceededError(f"The deadline passed while the devices of {self._named} were busy.")
        self._withdraw(inference, error)

    def _withdraw(self, inference: Inference, error: Error) -> bool:
        """End an inference if it waits: whether it did."""
        with self._lock:
            if inference not in self._waiting:
                return False
            self._waiting.remove(inference)
            self._unstarted -= 1
        if inference.is_watched:  # callbacks follow, and the caller may hold locks
            call_elsewhere(partial(inference.end, error), "cpuruntime-cancel")
        else:
            inference.end(error)
        self._close_if_started()
        return True

    def _close_if_started(self) -> None:
        if self.closed and self._unstarted == 0:
            for member in [*self.members]:
                member.model.close()

    def _match(self) -> list[Worker]:
        """Claim workers for inferences that wait, as many as the policy allows; the lock is held."""
        claimed: list[Worker] = []
        now = perf_counter_ns() if self._waiting else 0
        while self._waiting:
            choice = self.policy(self.members, len(self._waiting), now)
            if choice is None and not claimed and not self._awaits and not any(member.busy for member in self.members):
                # all devices pause after failures: the one that is due first is tried
                paused = [member for member in self.members if member.idle]
                choice = (min(paused, key=lambda one: one.retry_at), 0) if paused else None
            if choice is None:
                self._watch_pauses(now)
                break
            member, position = choice
            claimed.append(member.assign(self._waiting.pop(position), now))
        return claimed

    def _watch_pauses(self, now: int) -> None:
        """Some inference waits: have the devices that pause tried when their pauses end; the lock is held."""
        due = min((one.retry_at for one in self.members if one.retry_at > now and one.idle), default=0)
        if due and not self._due:
            timer = threading.Timer((due - now) / 1e9, self._pause_ended)
            timer.daemon = True
            with suppress(RuntimeError):  # no more threads: the end of another inference is waited for
                timer.start()
                self._due = due

    def _pause_ended(self) -> None:
        with self._lock:
            self._due = 0
            claimed = self._match()
        self._hand_over(claimed)

    def _arm_all(self) -> None:
        """Some inference waits for a worker: have the devices call when one is idle."""
        for member in [*self.members]:
            for worker in [*member.busy]:
                with suppress(RuntimeError):  # no more threads: who waits for that inference takes note of its end
                    self._arm(worker)

    def _arm(self, worker: Worker) -> None:
        with self._lock:
            if worker.inference is None or worker.armed or not worker.started:
                return
            worker.armed, turn = True, worker.turn
        try:
            worker.request.notify(partial(self._is_over, worker, turn))
        except BaseException:
            worker.armed = False
            raise

    def _hand_over(self, workers: list[Worker]) -> None:
        """Start the inferences of workers; one that ends at once lets this thread, which is here, hand over more."""
        queue: deque[Worker] | None = getattr(self._local, "queue", None)
        if queue is not None:
            queue.extend(workers)
            return
        if not workers:
            return
        queue = self._local.queue = deque(workers)
        try:
            while queue:
                self._start(queue.popleft())
        finally:
            self._local.queue = None
            for worker in queue:  # after an interrupt
                self._fail(worker, CancelledError("An interrupt struck before the inference began."))

    def _start(self, worker: Worker) -> None:
        inference, turn = worker.inference, worker.turn
        assert inference is not None
        armed = worker.armed = inference.is_watched or bool(self._waiting)
        function = partial(self._is_over, worker, turn) if armed else None
        is_over: bool | None = False
        try:
            worker.bind(inference.request)
            is_over = worker.request.start(inference.terms, function)
        except Exception as error:
            self._fail(worker, error)
            return
        except BaseException as error:  # an interrupt, before the inference was queued, or after
            if worker.request.cancel():
                worker.armed = worker.started = True
                worker.request.notify(partial(self._is_over, worker, turn))
            else:
                self._fail(worker, error)
            raise
        if is_over and not armed:
            self._over(worker, turn, None, 1)
            return
        with self._lock:
            self._unstarted -= 1
            is_running = worker.turn == turn and worker.inference is not None  # else it was over already
            worker.started |= is_running
        if is_running and not armed and (self._waiting or inference.is_watched or worker.member.retired):
            self._arm(worker)
        if is_running and inference.cancelled:
            worker.request.cancel()
        if self.closed:
            self._close_if_started()

    def _fail(self, worker: Worker, error: BaseException) -> None:
        """The device did not take the inference of a worker."""
        self._over(worker, worker.turn, error, 1)

    def _is_over(self, worker: Worker, turn: int) -> None:
        error, _ = worker.request.result()
        self._over(worker, turn, error)

    def _over(self, worker: Worker, turn: int, error: BaseException | None, unstarted: int = 0) -> None:
        """The inference of a worker is over, if it is still that one; `unstarted`: of one that counts as that."""
        with self._lock:
            self._unstarted -= unstarted
            inference = worker.inference
            if inference is None or worker.turn != turn:
                return  # another thread was faster
            worker.inference = None
        if self._generation != forks.generation:
            inference.end(error)
            return
        if error is None:
            try:
                inference.request.collect(worker.request)
            except Exception as raised:
                error = raised
        inference.worker = None
        again = inference if error is not None and runs_elsewhere(error) and not inference.cancelled else None
        claimed, waits = self._release(worker, error, again)
        if not waits:
            inference.end(error)
        if claimed:
            self._hand_over(claimed)
        if unstarted and self.closed:
            self._close_if_started()

    def _release(
        self, worker: Worker, error: BaseException | None, again: Inference | None, lender: Lender | None = None
    ) -> tuple[list[Worker], bool]:
        """A worker is idle: the workers claimed thereupon, and whether `again` waits, as it does until all failed."""
        member, now = worker.member, perf_counter_ns()
        waits = False
        with self._lock:
            free(worker, lender)
            if error is None:
                member.note_success(now - worker.began)
            elif runs_elsewhere(error):
                if member.note_failure(error, now):
                    log.warning("device %s failed in %s: %s", member.name, self._named, error)
                    mark(f"device {member.name} failed", error=str(error))
                self._awaits = self.on_failure is not None and self.on_failure(member, error)
            if again is not None:
                again.failed |= {member}
                waits = not self.closed and (self._awaits or not again.failed.issuperset(self.members))
                if waits:
                    self._unstarted += 1
                    insort(self._waiting, again)
            claimed = self._match() if self._waiting else []
            is_last = member.retired and not member.busy
        if is_last:
            member.model.close()
        if again is not None and waits:
            again.watch_deadline(self._expire)
            self._arm_all()
        return claimed, waits
