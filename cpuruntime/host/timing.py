"""Measuring several runs in turns, so that what else the machine does slows all of them down alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf


def alternate(
    runs: Sequence[Callable[[], float]],
    budget: float,
    rounds: int,
    fewest: int = 1,
    hopeless: float = inf,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """The samples of each run, which does its work once and returns the time it took, in any unit.

    Args:
        budget: seconds of `clock` after which no further round begins.
        rounds: how many samples of a run there are at most.
        fewest: how many rounds there are whatever they take.
        hopeless: a run that took so many times what the fastest took is not measured again; with only one of several
            left, measuring ends.
    """
    samples: list[list[float]] = [[] for _ in runs]
    going = list(range(len(runs)))
    end = clock() + budget
    for turn in range(rounds):
        if turn >= fewest and (clock() > end or len(going) == 1 < len(runs)):
            break
        for index in going:
            samples[index].append(runs[index]())
        fastest = min(map(min, samples))
        going = [index for index in going if min(samples[index]) <= hopeless * fastest]
    return samples
