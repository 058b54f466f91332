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
    settled: float = 1.0,
) -> list[list[float]]:
    """The samples of each run, which does its work once and returns the time it took, in any unit.

    Args:
        budget: seconds of `clock` after which no further round begins.
        rounds: how many samples of a run there are at most.
        fewest: how many rounds there are whatever they take.
        hopeless: a run that took so many times what the fastest took is not measured again; with only one of several
            left, measuring ends.
        settled: measuring ends also when the second best sample of each run takes less than so many times its best.
    """
    samples: list[list[float]] = [[] for _ in runs]
    going = list(range(len(runs)))
    end = clock() + budget
    for turn in range(rounds):
        is_over = len(going) == 1 < len(runs) or all(_is_settled(samples[index], settled) for index in going)
        if turn >= fewest and (is_over or clock() > end):
            break
        for index in going:
            samples[index].append(runs[index]())
        fastest = min(map(min, samples))
        going = [index for index in going if min(samples[index]) <= hopeless * fastest]
    return samples


def _is_settled(samples: Sequence[float], settled: float) -> bool:
    best = sorted(samples)[:2]
    return len(best) == 2 and best[1] < settled * best[0]
