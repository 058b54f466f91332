"""How soon a thread that wakes up gets a processor on which another one runs.

Linux's fair scheduler (EEVDF: Stoica and Abdel-Wahab 1995, "Earliest eligible virtual deadline first") runs a thread
that wakes at once when its turns are shorter than those of the thread on the processor, unless it has had more than its
share of late; else it waits for the end of a turn, some milliseconds. Both get the same share in the end. Before
Linux 6.12 the turns of all threads are of one length, and asking for another does nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np

from cpuruntime.streams import priorities
from cpuruntime.streams.memory import holding_the_gil
from cpuruntime.streams.native import time_slices

SHORT, USUAL, LONG = 100_000, 0, 20_000_000
"""Nanoseconds: the least the system allows, what it gives all (1 to 3 ms), and well above that (the most is 100 ms)."""

OF_LEVEL = {priorities.LOW: LONG, priorities.MEDIUM: USUAL, priorities.HIGH: SHORT}
"""The turns of the threads of streams, by their priority."""


def take_turns_of(nanoseconds: int) -> None:
    """Sets the length of the calling thread's turns, and leaves the rest of its scheduling as the user chose it."""
    attributes = np.zeros(1, time_slices.ATTRIBUTES)
    attributes["size"] = time_slices.ATTRIBUTES.itemsize
    attributes["runtime"] = nanoseconds
    with suppress(OSError, AttributeError):
        attributes["policy"] = os.sched_getscheduler(0)
        attributes["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
        holding_the_gil(time_slices.schedule)(attributes.ctypes.data, 0, 0)
