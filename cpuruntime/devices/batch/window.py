"""How many waiting inferences go as one batch, and how long a group is worth waiting for.

Pure: times come in as integers of nanoseconds, decisions go out; nothing waits and nothing is measured here.

An idle device takes what waits. It is left idle for a moment only if more inferences are in flight as a rule than wait
now, they are expected sooner than joining them to the group saves, and the bound on waiting allows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import cache
from statistics import median_low

from cpuruntime.devices import batch_gain
from cpuruntime.devices.batch.trials import Trials

GAPS = 15
"""The next arrival is expected after the median of so many gaps between the latest ones."""

PATIENCE = 3
"""Inferences that are expected are waited for so many times longer than they should take."""


KEPT = 1.1
"""Sizes that gain too little stay where they take up to so many times the best one's time for each inference."""

TRUST = 1 / 8
"""What a group is worth is halved each time one is waited for in vain, and grows by this part at each arrival."""


class Window:
    """The rules for one model. Not thread-safe.

    Args:
        times: nanoseconds of a batch by its size, the size 1 among them, with all of the device's slots busy.
        slots: how many batches the device runs at a time.
        limit: nanoseconds that an inference waits for a group at most, from its arrival on.
        turns: how often each size is timed while serving, after which those go that are much slower than the best.

    `latest` is when the latest inference arrived or the latest batch ended.
    """

    def __init__(self, times: Mapping[int, int], slots: int, limit: int, turns: int = 0) -> None:
        self.times = dict(sorted(times.items()))
        self._trials = Trials(self.times, slots, turns)
        self.slots = slots
        self.limit = limit
        self.largest = max(times)
        self._gaps: deque[int] = deque(maxlen=GAPS)
        self._in_flight: deque[int] = deque(maxlen=2 * self.largest * slots)
        self._trust = 1.0
        self.latest = 0
        self.cost = cache(self._cost)

    def arrive(self, now: int, in_flight: int) -> None:
        """An inference arrives; `in_flight` counts it and all that are not over."""
        if self.latest:
            self._gaps.append(max(0, now - self.latest))
        self.latest = now
        self._trust = min(1.0, self._trust + TRUST)
        self._in_flight.append(in_flight)

    def end(self, now: int) -> None:
        """A batch is over: what arrives next could have been waited for since now."""
        self.latest = now

    def size(self, waiting: int, free: int) -> int:
        """The size of the batch for the first of the inferences that wait, with `free` idle slots, at least one each.

        Where it is larger than the number of inferences the rest of it is padding.
        """
        share = min(self.largest, -(-waiting // free))
        return min(self.times, key=lambda size: (self.times[size] / min(size, share), -size))

    def ahead(self) -> int:
        """The size of a batch for later, where no slot is idle: one that is to be timed, else the fastest.

        Of sizes that hardly differ it is the smaller one.
        """
        trial = self._trials.next(max(self._in_flight, default=0) // (2 * self.slots))
        if trial:
            return trial
        return max(set(self.times).difference(batch_gain.useless(self.times)))

    def note(self, size: int, ended: int) -> list[int]:
        """As `Trials.note`: the sizes that are not used any more."""
        found = self._trials.note(size, ended)
        if not found:
            return []
        self.times = {**self.times, **found}
        shortest = min(time / one for one, time in self.times.items())
        dropped = [one for one in batch_gain.useless(self.times) if self.times[one] > KEPT * one * shortest]
        for one in dropped:
            del self.times[one]
            self._trials.drop(one)
        self.largest = max(self.times)
        self.cost = cache(self._cost)
        return dropped

    def wait(self, waiting: int, free: int) -> int:
        """How many nanoseconds after `latest` to wait for more inferences; 0 where what waits is to go."""
        if self.largest == 1 or not self._gaps or not self.limit:
            return 0
        share = -(-waiting // free)
        wanted = min(self.largest, max(self._in_flight) // self.slots)
        if share >= wanted:
            return 0
        saving = int(self._trust * (self.cost(share) + self.cost(wanted - share) - self.cost(wanted)))
        expected = (wanted - share) * free * median_low(self._gaps)
        return min(PATIENCE * expected, saving) if expected < saving else 0

    def miss(self) -> None:
        """Inferences that were waited for did not come."""
        self._trust /= 2

    def _cost(self, count: int) -> int:
        """The least time of `count` inferences on one slot, in batches of the sizes there are."""
        return min(time + (self.cost(count - size) if size < count else 0) for size, time in self.times.items())
