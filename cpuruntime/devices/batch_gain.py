"""When a batch is worth it: the rule for all devices that run inferences as batches."""

from __future__ import annotations

GAIN = 0.97
"""A larger batch must cut the time per inference to this fraction."""


SHORTEST = 200_000
"""Nanoseconds of an inference; the queue that forms batches would cost shorter ones more than 2 %."""


def gains(count: int, time: int, smaller: int, its_time: int) -> bool:
    """Whether a batch of `count` inferences, in any unit of time, is enough faster than batches of `smaller`."""
    return time * smaller <= GAIN * its_time * count
