"""Latency-bounded throughput: which inferences to accept, by which streams, and how many at once, to hold a target.

Pure: times come in as integers of nanoseconds, decisions go out, nothing waits and nothing is measured here.

An inference is accepted when its predicted end and a margin are within the target. The prediction follows from what is
known exactly, when the running ones began and how many wait, and from the median time of one. When its turn comes it is
looked at again, and refused if it would be late by now, which costs nothing; so what keeps one inference waiting longer
than predicted does not make it late. The margins are percentiles of how far past predictions were off, so they hold
whatever the errors come from (as in conformal prediction: Vovk et al., Algorithmic Learning in a Random World, 2005).

A stream that is free takes those that wait as one batch, if batches serve more: as many as can be, and as leave all of
them within the target. Nothing waits for a batch to fill.

Which of several settings, many small streams or few large ones, serves best depends on the load: the latest arrivals
are replayed through each now and then, and the best one takes over.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

PACES, ENOUGH = 33, 5
"""The pace of a setting is the median of the latest so many works; it is left alone while there are too few."""

ERRORS = 1024
"""A margin is a percentile of so many prediction errors."""

DOUBT = 0.25
"""A margin as long as there are few errors, as a part of the time of one inference."""

CAUTION = 3
"""Late are to be so many times fewer inferences than the percentile allows: in a short while, chance may treble their
number."""

EARLY = 0.95
"""Waits are predicted too short at most for the others of the accepted inferences."""

REPLAYED, REPLAY_EVERY, GAIN, CONVINCED = 256, 64, 1.03, 3
"""Settings are compared on so many arrivals, after so many new ones; another takes over when it was so many times
better so often in a row."""

FORGET = 0.02
"""The pace of a setting that is not in use goes back to what it was at first by this part of the difference, each time
that settings are compared."""

PROBE = 100
"""Where nothing is accepted, one is after so many times the time of one, to see whether that has changed."""


Number = TypeVar("Number", int, float)


@dataclass
class Setting:
    """Streams of some threads each, and the nanoseconds that their work takes while all of them are busy.

    `service` is that of one inference, `batches` those of batches of 2, 4, 8..., as they were measured at first; by now
    they take `pace` times that.
    """

    streams: int
    threads: int
    service: int
    batches: Sequence[int] = ()
    pace: float = 1.0

    @property
    def most(self) -> int:
        """Inferences in a batch."""
        return 1 << len(self.batches)

    def time(self, count: int) -> int:
        """Of so many inferences at once; they take that of the next power of two."""
        return int(self.pace * (self.batches[size_of(count) - 1] if count > 1 else self.service))


def size_of(count: int) -> int:
    """The power of two that so many inferences take."""
    return (count - 1).bit_length()


@dataclass(eq=False)
class Ticket:
    """An accepted inference: its setting, when it arrived, is expected to begin, and began (0: it has not).

    `batch` is how many began with it on its stream, itself included, and `leader` the first of them, None if that is
    itself. The work is `mixed` when some of another setting's was going on.
    """

    setting: int
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


class Window(Generic[Number]):
    """The latest values, and their quantiles."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._latest: deque[Number] = deque()
        self._sorted: list[Number] = []

    def add(self, value: Number) -> None:
        """Takes a value in, and drops the oldest one that is too many."""
        self._latest.append(value)
        insort(self._sorted, value)
        if len(self._latest) > self._size:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def quantile(self, part: float) -> Number:
        """The smallest value that this part of all values does not exceed; there is one."""
        return self._sorted[min(len(self._sorted) - 1, int(part * len(self._sorted)))]

    def __len__(self) -> int:
        return len(self._latest)


@dataclass
class Counts:
    """What became of the inferences so far: refused on arrival, refused when their turn came, on time, and late."""

    refused: int = 0
    given_up: int = 0
    on_time: int = 0
    late: int = 0


class Admission:
    """Decides for one model; not thread-safe.

    Args:
        target: the latency to hold, in nanoseconds.
        percentile: of the accepted inferences this percentage is to be within it.
        settings: the streams there are to choose from.

    Attributes:
        active: the index of the setting that new inferences go to.
    """

    def __init__(self, target: int, percentile: float, settings: Sequence[Setting]) -> None:
        self.target = target
        self.percentile = percentile
        self.settings = list(settings)
        self.active = 0
        self.counts = Counts()
        self.switches = 0
        self._in_time = 1 - (1 - percentile / 100) / CAUTION
        self._paces = [Window[float](PACES) for _ in settings]
        self._waits = Window[int](ERRORS)
        self._durations = Window[int](ERRORS)
        self._arrivals: deque[int] = deque(maxlen=REPLAYED)
        self._until_replay = REPLAY_EVERY
        self._wins = 0
        self._running: dict[Ticket, None] = {}
        self._waiting: dict[Ticket, None] = {}
        self._accepted = -1 << 62

    def arrive(self, now: int) -> Ticket | None:
        """A ticket for an inference that arrives, or None when it would be late: refuse it."""
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

    def together(self, tickets: Sequence[Ticket], now: int) -> int:
        """How many of these, from the first on, whose turn has come, are best served as one batch; at least 1."""
        setting, slowness = self.settings[tickets[0].setting], self._margin(self._durations, self._in_time)
        count = min(len(tickets), setting.most)
        while count > 1:
            earliest = min(ticket.arrived for ticket in tickets[:count])
            if now + setting.time(count) + slowness <= earliest + self.target:
                break
            count = 1 << size_of(count) >> 1
        return count

    def begin(self, ticket: Ticket, now: int, others: Sequence[Ticket] = ()) -> bool:
        """The turn of an accepted inference has come, with `others` in its batch that have not begun.

        False when it would be late by now: refuse it; the others then still wait.
        """
        del self._waiting[ticket]
        time = self.settings[ticket.setting].time(1 + len(others))
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
            if one.setting != ticket.setting:
                one.mixed = ticket.mixed = True
        self._running[ticket] = None
        return True

    def end(self, ticket: Ticket, ended: int, told: int, served: bool = True) -> None:
        """An accepted inference is over: its stream was free again when it `ended`, the caller was `told` later.

        `served` unless it failed, was cancelled or refused.
        """
        self._waiting.pop(ticket, None)
        self._running.pop(ticket, None)
        if not served:
            return
        if told - ticket.arrived <= self.target:
            self.counts.on_time += 1
        else:
            self.counts.late += 1
        if (ticket.leader or ticket).mixed:
            return
        setting = self.settings[ticket.setting]
        time = setting.time(ticket.batch)
        self._durations.add(told - ticket.began - time)
        if not ticket.leader:
            window = self._paces[ticket.setting]
            window.add(setting.pace * (ended - ticket.began) / max(1, time))
            if len(window) >= ENOUGH:
                setting.pace = window.quantile(0.5)

    @property
    def waiting(self) -> int:
        """How many accepted inferences wait for a stream."""
        return len(self._waiting)

    @property
    def margin(self) -> int:
        """Nanoseconds by which an inference that waits may end later than predicted."""
        return self._margin(self._waits, EARLY) + self._margin(self._durations, self._in_time)

    def _margin(self, errors: Window[int], part: float) -> int:
        if len(errors) < PACES:
            return int(DOUBT * self.settings[self.active].time(1))
        return max(0, errors.quantile(part))

    def _is_probe(self, now: int, service: int) -> bool:
        return not self._running and not self._waiting and now - self._accepted > PROBE * service

    def _predict(self, now: int) -> tuple[int, int]:
        """When an inference that arrives now is expected to begin, and what it takes then, with those of its batch."""
        settings, active = self.settings, self.settings[self.active]
        ends = sorted(max(now, one.began + settings[one.setting].time(one.batch)) for one in self._running)
        free = [now] * (active.streams - len(ends)) + ends[-active.streams :]
        heapify(free)
        left = 1
        for ticket in self._waiting:
            if ticket.setting == self.active:
                left += 1
            else:
                heapreplace(free, free[0] + settings[ticket.setting].time(1))
        while left > active.most:
            heapreplace(free, free[0] + active.time(active.most))
            left -= active.most
        return free[0], active.time(left)

    def _compare(self) -> None:
        """Lets the setting take over that would have served the latest arrivals best, of those that hold the target.

        The others are as fast as they were last. What slows one down need not slow others (a thread that is kept from
        running holds up its whole stream), so what was slow is forgotten, and tried again after a while.
        """
        if len(self.settings) == 1:
            return
        now = self.settings[self.active].time(1)
        margin, slowness = self.margin, self._margin(self._durations, self._in_time)
        merits = []
        for index, setting in enumerate(self.settings):
            if index != self.active:
                setting.pace += (1 - setting.pace) * FORGET
            share = setting.time(1) / now
            holds = setting.time(1) + slowness * share <= self.target
            merits.append((holds, replay(self._arrivals, setting, int(margin * share), self.target)))
        best = max(range(len(merits)), key=merits.__getitem__)
        (holds, served), (held, serves) = merits[best], merits[self.active]
        if best == self.active or (holds == held and served <= GAIN * serves):
            self._wins = 0
            return
        self._wins += 1
        if self._wins == CONVINCED or not held:
            self._wins = 0
            self._paces[best] = Window[float](PACES)
            self.active = best
            self.switches += 1


def replay(arrivals: Iterable[int], setting: Setting, margin: int, target: int) -> int:
    """How many of the arrivals a setting would serve in time, if its work took what it does by the median."""
    free = [0] * setting.streams
    waiting = served = 0
    for now in arrivals:
        while waiting and free[0] <= now:
            count = min(waiting, setting.most)
            heapreplace(free, free[0] + setting.time(count))
            waiting -= count
        batches, count = divmod(waiting, setting.most)
        begin = max(now, free[0]) if not batches else _after(free, batches, setting)
        latency = begin - now + setting.time(count + 1)
        if latency + (margin if begin > now else 0) <= target:
            served += 1
            if begin > now:
                waiting += 1
            else:
                heapreplace(free, now + setting.time(1))
    return served


def _after(free: Sequence[int], batches: int, setting: Setting) -> int:
    """When a stream is free once so many full batches have begun."""
    ahead = list(free)
    for _ in range(batches):
        heapreplace(ahead, ahead[0] + setting.time(setting.most))
    return ahead[0]
