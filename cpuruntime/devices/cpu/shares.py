"""How threads share the steps of a program, and what a step takes beyond an even split of its work."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from cpuruntime.compiler.build import PROTOTYPE
from cpuruntime.host.caches import caches
from cpuruntime.records import record
from cpuruntime.streams.native import runner

BARRIER_NS = 200
"""Of a barrier between two threads, and again for each doubling: as measured between pinned threads."""
ROUNDS = 3
"""Inferences of which the fastest time of each share counts."""
SCALES_WELL, SHORT_NS = 0.925, 2000
"""The share of its threads from which on a step scales well; what a step takes that is not judged."""


@record
class Loss:
    """Why a step scales badly: nanoseconds of its work on one thread, of the step, and beyond an even split of work.

    `uneven`: its slowest thread has more to do. `elsewhere`: it reads or writes what is in other cores' caches, or in
    memory, if `far`, as all values and weights outgrow the last cache; other programs on the cores count here, too.
    """

    work: float
    taken: float
    uneven: float
    barrier: float
    elsewhere: float
    far: bool

    def __str__(self) -> str:
        place = "memory" if self.far else "other cores' caches"
        parts = (("uneven", self.uneven), ("barrier", self.barrier), (place, self.elsewhere))
        causes = ", ".join(f"{cause} {time / 1000:.1f} us" for cause, time in parts if time >= 100)
        return f"{self.work / self.taken:.2f}: {causes}"


def time_shares(table: np.ndarray, threads: int) -> list[list[float]]:
    """Nanoseconds of each thread's share of the steps of a linked program, all run by this thread.

    Steps that thread 0 runs alone have one share.
    """
    calls = [
        (PROTOTYPE(kernel), block & ~runner.ALONE, 1 if block & runner.ALONE else threads)
        for kernel, block in table.tolist()
    ]
    shares = [[float("inf")] * count for _, _, count in calls]
    for _ in range(ROUNDS):
        for (entry, block, count), best in zip(calls, shares):
            for thread in range(count):
                begin = time.thread_time_ns()
                entry(block, thread, count)
                best[thread] = min(best[thread], time.thread_time_ns() - begin)
    return shares


def loss_of(shares: Sequence[float], taken: float, nbytes: int) -> Loss | None:
    """What a step loses that took so long; None where it scales well. All values and weights have `nbytes`."""
    count, work = len(shares), sum(shares)
    if count == 1 or taken < SHORT_NS or work >= SCALES_WELL * count * taken:
        return None
    slowest, barrier = max(shares), BARRIER_NS * (count - 1).bit_length()
    elsewhere = max(0.0, taken - slowest - barrier)
    return Loss(work, taken, slowest - work / count, barrier, elsewhere, nbytes > caches().last)
