"""When a batch is worth it: the rule for all devices that run inferences as batches."""

from __future__ import annotations

GAIN = 0.92
"""A larger batch must cut the time per inference to this fraction."""


def gains(count: int, time: int, smaller: int, its_time: int) -> bool:
    """Whether a batch of `count` inferences, in any unit of time, is enough faster than batches of `smaller`."""
    return time * smaller <= GAIN * its_time * count
