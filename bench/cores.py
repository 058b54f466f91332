"""Measures how long two pinned threads take to meet, again and again: the host of a virtual machine may move its cores.

    python bench/cores.py --seconds 20

A barrier of two cores with a cache in common takes 40 to 100 ns on Zen 4, of two without one about 320; values that one
core writes and the other reads travel as much slower. Models of many short steps scale well on the former only, so
compare figures of two threads that were measured in the same state.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from cpuruntime.cli.parser import Parser, positive_seconds
from cpuruntime.ops.reorder import zero_halo
from cpuruntime.streams.job import Job
from cpuruntime.streams.thread_group import ThreadGroup

STEPS, PAUSE_SECONDS = 1000, 0.1
APART_NS = 180
"""A barrier takes longer between cores that have no cache in common."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="cores.py", description="Measure barriers between two pinned threads.")
    options.add_argument("--seconds", type=positive_seconds, default=10.0, help="time to measure for (default: 10)")
    return options


def barrier_ns(group: ThreadGroup) -> float:
    """Nanoseconds of a step without work, the fastest of a few runs."""
    block = np.zeros(1, zero_halo.arguments)
    job = Job(np.array([[zero_halo.address, block.ctypes.data]] * STEPS, np.int64), keep=block)
    taken = []
    for _ in range(3):
        group.run(job, pin_caller=True)
        taken.append(job.elapsed / STEPS)
    return min(taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line whenever the state changes, and how often each was seen; returns 0."""
    options = parser().parse_args(arguments)
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        print("Two processors are needed.", file=sys.stderr)
        return 1
    group = ThreadGroup(2, cpus)
    begin, state, found = time.monotonic(), "", {"together": [], "apart": []}
    while time.monotonic() < begin + options.seconds:
        nanoseconds = barrier_ns(group)
        now = "apart" if nanoseconds > APART_NS else "together"
        found[now].append(nanoseconds)
        if now != state:
            print(f"{time.monotonic() - begin:6.1f} s: {nanoseconds:4.0f} ns a barrier, {now}", flush=True)
            state = now
        time.sleep(PAUSE_SECONDS)
    group.stop()
    for name, times in found.items():
        if times:
            print(f"{name}: {len(times)} times, median {statistics.median(times):.0f} ns a barrier")
    return 0


if __name__ == "__main__":
    sys.exit(main())
