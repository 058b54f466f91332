"""When a batch is worth it: the rule for all devices that run inferences as batches."""

from __future__ import annotations

from collections.abc import Mapping

GAIN = 0.99
"""A larger batch must cut the time per inference to this fraction."""


SHORTEST = 200_000
"""Nanoseconds of an inference; the queue that forms batches would cost shorter ones more than 2 %."""


def gains(count: int, time: int, smaller: int, its_time: int) -> bool:
    """Whether a batch of `count` inferences, in any unit of time, is enough faster than batches of `smaller`."""
    return time * smaller <= GAIN * its_time * count


def useless(times: Mapping[int, int]) -> list[int]:
    """The sizes that are not enough faster than the best smaller one; `times` are of batches by size, 1 included."""
    best, found = 1, []
    for size in sorted(times):
        if size > 1 and gains(size, times[size], best, times[best]):
            best = size
        elif size > 1:
            found.append(size)
    return found
