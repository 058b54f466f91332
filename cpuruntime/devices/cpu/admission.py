"""Latency-bounded throughput: which inferences to accept, and by which streams, so that the tail stays under a target.

Pure: times come in as integers of nanoseconds, decisions go out, nothing waits and nothing is measured here.

An inference is accepted when its predicted end and a margin are within the target. The prediction follows from what is
known exactly, when the running ones began and how many wait, and from the median time of one. When its turn comes it is
looked at again, and refused if it would be late by now, which costs nothing; so what keeps one inference waiting longer
than predicted does not make it late. The margins are percentiles of how far past predictions were off, so they hold
whatever the errors come from (as in conformal prediction: Vovk et al., Algorithmic Learning in a Random World, 2005).

Which of several settings, many small streams or few large ones, serves best depends on the load: the latest arrivals
are replayed through each now and then, and the best one takes over.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

SERVICES, ENOUGH = 33, 5
"""The time of one inference is the median of the latest so many; it is left alone while there are too few."""

ERRORS = 1024
"""A margin is a percentile of so many prediction errors."""

DOUBT = 0.25
"""A margin as long as there are few errors, as a part of the time of one inference."""

CAUTION = 3
"""Late are to be so many times fewer inferences than the percentile allows: in a short while, chance may treble their
number."""

EARLY = 0.95
"""Waits are predicted too short at most for the others of the accepted inferences."""

REPLAYED, REPLAY_EVERY, GAIN = 256, 64, 1.03
"""Settings are compared on so many arrivals, after so many new ones; another takes over when so many times better."""

FORGET = 0.02
"""The time of an inference in a setting that is not in use goes back to what it was at first by this part of the
difference, each time that settings are compared."""

PROBE = 100
"""Where nothing is accepted, one is after so many times the time of one, to see whether that has changed."""


@dataclass
class Setting:
    """Streams of some threads each, and the nanoseconds that one inference takes while all of them are busy."""

    streams: int
    threads: int
    service: int


@dataclass(eq=False)
class Ticket:
    """An accepted inference: its setting, when it arrived, is expected to begin, and began (0: it has not)."""

    setting: int
    arrived: int
    expected: int
    began: int = 0

    @property
    def waits(self) -> bool:
        """Whether no stream was free when it arrived."""
        return self.expected > self.arrived


class Window:
    """The latest values, and their quantiles."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._latest: deque[int] = deque()
        self._sorted: list[int] = []

    def add(self, value: int) -> None:
        """Takes a value in, and drops the oldest one that is too many."""
        self._latest.append(value)
        insort(self._sorted, value)
        if len(self._latest) > self._size:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def quantile(self, part: float) -> int:
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
        self._calibrated = [setting.service for setting in settings]
        self._services = [Window(SERVICES) for _ in settings]
        self._waits = Window(ERRORS)
        self._durations = Window(ERRORS)
        self._arrivals: deque[int] = deque(maxlen=REPLAYED)
        self._until_replay = REPLAY_EVERY
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
        service = self.settings[self.active].service
        begin = self._next_free(now)
        margin = self.margin if begin > now else 0
        if begin - now + service + margin > self.target and not self._is_probe(now, service):
            self.counts.refused += 1
            return None
        ticket = Ticket(self.active, now, begin)
        self._waiting[ticket] = None
        self._accepted = now
        return ticket

    def begin(self, ticket: Ticket, now: int) -> bool:
        """The turn of an accepted inference has come. False when it would be late by now: refuse it."""
        del self._waiting[ticket]
        if ticket.waits:
            self._waits.add(now - ticket.expected)
            service = self.settings[ticket.setting].service
            if now + service + self._margin(self._durations, self._in_time) > ticket.arrived + self.target:
                self.counts.given_up += 1
                return False
        ticket.began = now
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
        window = self._services[ticket.setting]
        window.add(ended - ticket.began)
        self._durations.add(told - ticket.began - self.settings[ticket.setting].service)
        if len(window) >= ENOUGH:
            self.settings[ticket.setting].service = window.quantile(0.5)

    @property
    def waiting(self) -> int:
        """How many accepted inferences wait for a stream."""
        return len(self._waiting)

    @property
    def margin(self) -> int:
        """Nanoseconds by which an inference that waits may end later than predicted."""
        return self._margin(self._waits, EARLY) + self._margin(self._durations, self._in_time)

    def _margin(self, errors: Window, part: float) -> int:
        if len(errors) < SERVICES:
            return int(DOUBT * self.settings[self.active].service)
        return max(0, errors.quantile(part))

    def _is_probe(self, now: int, service: int) -> bool:
        return not self._running and not self._waiting and now - self._accepted > PROBE * service

    def _next_free(self, now: int) -> int:
        """When a stream is expected to be free for an inference that arrives now."""
        settings = self.settings
        ends = sorted(max(now, ticket.began + settings[ticket.setting].service) for ticket in self._running)
        streams = settings[self.active].streams
        free = [now] * (streams - len(ends)) + ends[-streams:]
        heapify(free)
        for ticket in self._waiting:
            heapreplace(free, free[0] + settings[ticket.setting].service)
        return free[0]

    def _compare(self) -> None:
        """Lets the setting take over that would have served the latest arrivals best, of those that hold the target.

        The others are as fast as they were last. What slows one down need not slow others (a thread that is kept from
        running holds up its whole stream), so what was slow is forgotten, and tried again after a while.
        """
        if len(self.settings) == 1:
            return
        now = self.settings[self.active].service
        margin, slowness = self.margin, self._margin(self._durations, self._in_time)
        merits = []
        for index, setting in enumerate(self.settings):
            if index != self.active:
                setting.service += int((self._calibrated[index] - setting.service) * FORGET)
            share = setting.service / now
            holds = setting.service + slowness * share <= self.target
            merits.append((holds, replay(self._arrivals, setting, int(margin * share), self.target)))
        best = max(range(len(merits)), key=merits.__getitem__)
        (holds, served), (held, serves) = merits[best], merits[self.active]
        if holds > held or served > GAIN * serves:
            self._services[best] = Window(SERVICES)
            self.active = best
            self.switches += 1


def replay(arrivals: Iterable[int], setting: Setting, margin: int, target: int) -> int:
    """How many of the arrivals a setting would serve in time, if each inference took what its median one does."""
    free = [0] * setting.streams
    served = 0
    for now in arrivals:
        begin = max(now, free[0])
        latency = begin - now + setting.service
        if latency + (margin if begin > now else 0) <= target:
            heapreplace(free, begin + setting.service)
            served += 1
    return served
