"""Admission control for a latency target: which inferences to accept, on which streams, and in batches of which size.

Pure: times come in as integers of nanoseconds, decisions go out; nothing waits and nothing is measured here.

An inference is accepted when its predicted end and a margin are within the target. The prediction follows from the
start times of the running inferences, the number that wait, and the median time of one. The inference is checked again
when it leaves the queue, and refused if it would be late by now. The margins are quantiles of past prediction errors,
so they hold whatever the cause of the errors (as in conformal prediction: Vovk et al., Algorithmic Learning in a Random
World, 2005).

An idle stream runs waiting inferences as one batch if batches increase throughput: as large a batch as keeps all of its
inferences within the target. Nothing waits for a batch to fill.

Which variant of the streams is best, many small ones or few large ones, depends on the load: the latest arrivals are
replayed through each variant at intervals, and new inferences go to the best one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

PACES, ENOUGH = 33, 5
"""The pace of a variant is the median of the latest PACES executions, once there are ENOUGH."""

ERRORS = 1024
"""A margin is a quantile of so many prediction errors."""

DOUBT = 0.25
"""The margin while there are few errors, as a part of the time of one inference."""

CAUTION = 3
"""Safety factor on the late rate: over short windows sampling noise can triple it."""

EARLY = 0.95
"""Quantile of wait-prediction errors used as the margin."""

REPLAYED, REPLAY_EVERY, GAIN, CONVINCED = 256, 64, 1.03, 3
"""The last REPLAYED arrivals are replayed every REPLAY_EVERY; CONVINCED consecutive wins by GAIN switch variants."""

FORGET = 0.02
"""At each replay the pace of an unused variant decays towards its first value by this part of the difference."""

PROBE = 100
"""If everything is refused, admit one probe every PROBE service times."""

Number = TypeVar("Number", int, float)


@dataclass
class Variant:
    """One way to divide the processors into streams, and its times in nanoseconds while all of its streams are busy.

    Attributes:
        streams: how many.
        threads: of the largest stream.
        service: the time of one inference, as it was measured when the model was compiled.
        batches: likewise those of batches of 2, 4, 8...
        pace: the present times as a multiple of the measured ones.
    """

    streams: int
    threads: int
    service: int
    batches: Sequence[int] = ()
    pace: float = 1.0

    @property
    def most(self) -> int:
        """Inferences in the largest batch."""
        return 1 << len(self.batches)

    def time(self, count: int) -> int:
        """The time of a batch of `count` inferences, which is that of the next power of two."""
        return int(self.pace * (self.batches[size_of(count) - 1] if count > 1 else self.service))


def size_of(count: int) -> int:
    """The exponent of the next power of two."""
    return (count - 1).bit_length()


@dataclass(eq=False)
class Ticket:
    """An accepted inference.

    Attributes:
        variant: the index of the variant that runs it.
        arrived, expected, began: when it arrived, is expected to begin, and began (0: it has not), in nanoseconds.
        batch: how many inferences are in its batch.
        leader: the first inference of its batch; None for the first itself.
        mixed: whether another variant was running inferences at the same time.
    """

    variant: int
    arrived: int
    expected: int
    began: int = 0
    batch: int = 1
    leader: Ticket | None = None
    mixed: bool = False

    @property
    def waits(self) -> bool:
        """Whether no stream was free when it arrived."""
        return self.expected > self.arrived


class SlidingWindow(Generic[Number]):
    """The latest `size` values, and their quantiles."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._latest: deque[Number] = deque()
        self._sorted: list[Number] = []

    def add(self, value: Number) -> None:
        """Add a value, and evict the oldest one when there are too many."""
        self._latest.append(value)
        insort(self._sorted, value)
        if len(self._latest) > self._size:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def quantile(self, part: float) -> Number:
        """The smallest value that this part of all values does not exceed; there must be a value."""
        return self._sorted[min(len(self._sorted) - 1, int(part * len(self._sorted)))]

    def __len__(self) -> int:
        return len(self._latest)


@dataclass
class Counts:
    """How many inferences were refused on arrival, given up when they left the queue, on time, and late."""

    refused: int = 0
    given_up: int = 0
    on_time: int = 0
    late: int = 0


class Admission:
    """Decides for one model: `percentile` % of accepted inferences have to take at most `target` nanoseconds.

    New inferences go to `variants[active]`. Not thread-safe.
    """

    def __init__(self, target: int, percentile: float, variants: Sequence[Variant]) -> None:
        self.target = target
        self.percentile = percentile
        self.variants = list(variants)
        self.active = 0
        self.counts = Counts()
        self.switches = 0
        self._in_time = 1 - (1 - percentile / 100) / CAUTION
        self._paces = [SlidingWindow[float](PACES) for _ in variants]
        self._waits = SlidingWindow[int](ERRORS)
        self._durations = SlidingWindow[int](ERRORS)
        self._arrivals: deque[int] = deque(maxlen=REPLAYED)
        self._until_replay = REPLAY_EVERY
        self._wins = 0
        self._running: dict[Ticket, None] = {}
        self._waiting: dict[Ticket, None] = {}
        self._accepted = -1 << 62

    def arrive(self, now: int) -> Ticket | None:
        """A ticket for an inference that arrives; None when it would be late and has to be refused."""
        self._arrivals.append(now)
        self._until_replay -= 1
        if not self._until_replay:
            self._until_replay = REPLAY_EVERY
            self._compare()
        begin, time = self._predict(now)
        margin = self.margin if begin > now else 0
        if begin - now + time + margin > self.target and not self._is_probe(now, time):
            self.counts.refused += 1
            return None
        ticket = Ticket(self.active, now, begin)
        self._waiting[ticket] = None
        self._accepted = now
        return ticket

    def batch_size(self, tickets: Sequence[Ticket], now: int) -> int:
        """How many of these next ones of the queue, from the first on, are best served as one batch; at least 1."""
        variant, slowness = self.variants[tickets[0].variant], self._margin(self._durations, self._in_time)
        count = min(len(tickets), variant.most)
        while count > 1:
            earliest = min(ticket.arrived for ticket in tickets[:count])
            if now + variant.time(count) + slowness <= earliest + self.target:
                break
            count = 1 << size_of(count) >> 1
        return count

    def begin(self, ticket: Ticket, now: int, others: Sequence[Ticket] = ()) -> bool:
        """Count an accepted inference that leaves the queue, with `others` in its batch.

        False when it would be late by now and has to be refused; the others then still wait.
        """
        del self._waiting[ticket]
        time = self.variants[ticket.variant].time(1 + len(others))
        if ticket.waits:
            self._waits.add(now - ticket.expected)
            if now + time + self._margin(self._durations, self._in_time) > ticket.arrived + self.target:
                self.counts.given_up += 1
                return False
        for other in others:
            del self._waiting[other]
            self._waits.add(now - other.expected)
            other.leader = ticket
        for one in (ticket, *others):
            one.began, one.batch = now, 1 + len(others)
        for one in self._running:
            if one.variant != ticket.variant:
                one.mixed = ticket.mixed = True
        self._running[ticket] = None
        return True

    def end(self, ticket: Ticket, ended: int, notified: int, served: bool = True) -> None:
        """Count an accepted inference that is over.

        Its stream was idle again at `ended`, its caller is notified at `notified`; `served` says whether it succeeded.
        """
        self._waiting.pop(ticket, None)
        self._running.pop(ticket, None)
        if not served:
            return
        is_late = notified - ticket.arrived > self.target
        self.counts.late += is_late
        self.counts.on_time += not is_late
        if (ticket.leader or ticket).mixed:
            return
        variant = self.variants[ticket.variant]
        time = variant.time(ticket.batch)
        self._durations.add(notified - ticket.began - time)
        if not ticket.leader:
            window = self._paces[ticket.variant]
            window.add(variant.pace * (ended - ticket.began) / max(1, time))
            if len(window) >= ENOUGH:
                variant.pace = window.quantile(0.5)

    @property
    def waiting(self) -> int:
        """How many accepted inferences wait for a stream."""
        return len(self._waiting)

    @property
    def margin(self) -> int:
        """Nanoseconds by which an inference that waits may end later than predicted."""
        return self._margin(self._waits, EARLY) + self._margin(self._durations, self._in_time)

    def _margin(self, errors: SlidingWindow[int], part: float) -> int:
        if len(errors) < PACES:
            return int(DOUBT * self.variants[self.active].time(1))
        return max(0, errors.quantile(part))

    def _is_probe(self, now: int, service: int) -> bool:
        return not self._running and not self._waiting and now - self._accepted > PROBE * service

    def _predict(self, now: int) -> tuple[int, int]:
        """When an inference that arrives now is expected to begin, and the time of its batch."""
        variants, active = self.variants, self.variants[self.active]
        ends = sorted(max(now, one.began + variants[one.variant].time(one.batch)) for one in self._running)
        free = [now] * (active.streams - len(ends)) + ends[-active.streams :]
        heapify(free)
        left = 1
        for ticket in self._waiting:
            if ticket.variant == self.active:
                left += 1
            else:
                heapreplace(free, free[0] + variants[ticket.variant].time(1))
        return _last_of(left, free, active)

    def _compare(self) -> None:
        """Replay the latest arrivals through each variant, and switch to the best one of those that hold the target.

        The pace of a variant that is not in use decays, so that one that was slow for a time is tried again.
        """
        if len(self.variants) == 1:
            return
        now = self.variants[self.active].time(1)
        margin, slowness = self.margin, self._margin(self._durations, self._in_time)
        merits = []
        for index, variant in enumerate(self.variants):
            if index != self.active:
                variant.pace += (1 - variant.pace) * FORGET
            share = variant.time(1) / now
            holds = variant.time(1) + slowness * share <= self.target
            merits.append((holds, replay(self._arrivals, variant, int(margin * share), self.target)))
        best = max(range(len(merits)), key=merits.__getitem__)
        (holds, served), (held, serves) = merits[best], merits[self.active]
        if best == self.active or (holds == held and served <= GAIN * serves):
            self._wins = 0
            return
        self._wins += 1
        if self._wins == CONVINCED or not held:
            self._wins = 0
            self._paces[best] = SlidingWindow[float](PACES)
            self.active = best
            self.switches += 1


def replay(arrivals: Iterable[int], variant: Variant, margin: int, target: int) -> int:
    """How many of the arrivals a variant would serve in time if each inference or batch took the median time."""
    free = [0] * variant.streams
    waiting = served = 0
    for now in arrivals:
        while waiting and free[0] <= now:
            count = min(waiting, variant.most)
            heapreplace(free, free[0] + variant.time(count))
            waiting -= count
        begin, time = _last_of(waiting + 1, list(free), variant)
        delay = max(0, begin - now)
        if delay + time + (margin if delay else 0) <= target:
            served += 1
            if delay:
                waiting += 1
            else:
                heapreplace(free, now + variant.time(1))
    return served


def _last_of(count: int, free: list[int], variant: Variant) -> tuple[int, int]:
    """When the last of `count` inferences begins on streams that are idle from `free` on, and the time of its batch.

    Those before it run in full batches, which change the heap `free`.
    """
    while count > variant.most:
        heapreplace(free, free[0] + variant.time(variant.most))
        count -= variant.most
    return free[0], variant.time(count)
