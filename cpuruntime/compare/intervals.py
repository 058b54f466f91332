"""From log-ratios to an interval, a p-value, and the effect that could have been found.

The slices of two processes share the luck of those processes: the placement of memory, the cores they began on. So the
processes are the sample: the effect is the mean over pairs of processes of the median log-ratio of their slices. The
bootstrap draws pairs of processes. Its deviations are widened by Student's quantile over the normal one and by
sqrt(n / (n - 1)), since the percentiles of a bootstrap of few values are too narrow (Hesterberg, 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

DRAWS = 10000
FEWEST = 4
"""Processes below which there is no interval."""
POWER = 0.95
"""Share of runs in which a slowdown of the size of `Estimate.detectable` is found."""
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Estimate:
    """`effect` is log(head / base), above 0 where the head takes longer; `deviations` are the bootstrap's, sorted."""

    effect: float
    deviations: np.ndarray
    processes: int

    @classmethod
    def paired(cls, centres: Sequence[float]) -> Estimate:
        """From the log-ratio of each pair of processes."""
        values = np.asarray(centres, np.float64)
        return cls(float(values.mean()), np.sort(_draws(values, 0)), len(values))

    @classmethod
    def unpaired(cls, head: Sequence[float], base: Sequence[float]) -> Estimate:
        """From the logarithm of each process of two runs."""
        ours, theirs = np.asarray(head, np.float64), np.asarray(base, np.float64)
        deviations = np.sort(_draws(ours, 0) - _draws(theirs, 1))
        return cls(float(ours.mean() - theirs.mean()), deviations, min(len(ours), len(theirs)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """The limits that miss the true effect with probability `alpha`; infinite with fewer than 4 processes."""
        if self.processes < FEWEST:
            return -math.inf, math.inf
        ranks = np.array([alpha / 2, 1 - alpha / 2]) * (len(self.deviations) - 1)
        places = np.array([math.floor(ranks[0]), math.ceil(ranks[1])])
        low, high = self.effect + self._widening(alpha) * self.deviations[places]
        return float(low), float(high)

    def p_value(self) -> float:
        """The `alpha` at which the interval begins to include 0."""
        if self.excludes_zero(_SMALLEST):
            return _SMALLEST
        low, high = math.log(_SMALLEST), 0.0
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if self.excludes_zero(math.exp(middle)) else (middle, high)
        return math.exp(high)

    def excludes_zero(self, alpha: float) -> bool:
        """Whether the interval lies on one side of 0."""
        low, high = self.interval(alpha)
        return low > 0 or high < 0

    def detectable(self, alpha: float, least: float = 0.0) -> float:
        """The effect that is beyond the interval's half-width, and beyond `least`, in 95 % of such runs.

        Infinite below 4 processes.
        """
        if self.processes < FEWEST:
            return math.inf
        freedom = self.processes - 1
        needed = max(least, student_quantile(1 - alpha / 2, freedom) * self.error)
        return needed + student_quantile(POWER, freedom) * self.error

    @property
    def error(self) -> float:
        """The standard error of the effect."""
        return float(self.deviations.std()) * _spread(self.processes)

    def _widening(self, alpha: float) -> float:
        tail = 1 - alpha / 2
        ratio = student_quantile(tail, self.processes - 1) / NormalDist().inv_cdf(tail) if tail > 0.5 else 1.0
        return ratio * _spread(self.processes)


def _spread(count: int) -> float:
    return math.sqrt(count / (count - 1)) if count > 1 else math.inf


def _draws(values: np.ndarray, seed: int) -> np.ndarray:
    """The bootstrap's deviations of the mean."""
    return _weights(len(values), seed) @ (values - values.mean())


@cache
def _weights(count: int, seed: int) -> np.ndarray:
    """How often each of `count` values is drawn, as a share, in each draw."""
    return np.random.default_rng(seed).multinomial(count, [1 / count] * count, DRAWS) / count


def student_probability(t: float, freedom: int) -> float:
    """P(|T| < t) of Student's distribution with a whole number of degrees of freedom (Abramowitz, Stegun 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))
    return math.sin(angle) * total


@cache
def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's distribution stays below with a probability of at least 0.5."""
    low, high = 0.0, 1.0
    while student_probability(high, freedom) < 2 * probability - 1:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_probability(middle, freedom) < 2 * probability - 1 else (low, middle)
    return high


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level of each test such that any false finding among all of them has probability `alpha` (Holm, 1979).

    The smallest p-value is tested at alpha / n, the next at alpha / (n - 1), until one is not significant; those after
    it share its level.
    """
    levels = [alpha] * len(p_values)
    level, going = 0.0, True
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        if going:
            level = alpha / (len(p_values) - rank)
            going = p_values[index] <= level
        levels[index] = level
    return levels
