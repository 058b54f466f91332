"""From slices to ratios. A ratio above 1 means that the first engine is faster, in every mode."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """The median over the rounds, each round's ratio taken from two neighbouring slices, and the extremes."""

    median: float
    low: float
    high: float
    rounds: Sequence[float]


def ratio(ours: Sequence[float], theirs: Sequence[float], *, smaller_is_better: bool) -> Ratio:
    """How many times faster `ours` is than `theirs`, slice by slice."""
    pairs = [(b / a if smaller_is_better else a / b) for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(pairs), min(pairs), max(pairs), pairs)


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of positive numbers."""
    return math.exp(statistics.fmean(map(math.log, values)))


def rotated(items: Sequence[str], turn: int) -> list[str]:
    """`items` beginning with the one at `turn`, so that every engine takes every place in the order."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def output_error(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """The largest difference relative to the largest magnitude of the same output.

    Infinite where the number of outputs, their shapes or the places of their NaNs differ.
    """
    worst = 0.0 if len(outputs) == len(reference) else math.inf
    for ours, theirs in zip(outputs, reference):
        if ours.shape != theirs.shape or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
            return math.inf
        difference = float(np.nanmax(np.abs(ours.astype(np.float64) - theirs), initial=0.0))
        worst = max(worst, difference / (float(np.nanmax(np.abs(theirs), initial=0.0)) or 1.0))
    return worst


def angle(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """1 - cosine of the two as vectors, of the worst output; infinite where number or shapes of outputs differ."""
    worst = 0.0 if len(outputs) == len(reference) else math.inf
    for ours, theirs in zip(outputs, reference):
        if ours.shape != theirs.shape:
            return math.inf
        one, other = (array.astype(np.float64).ravel() for array in (ours, theirs))
        length = float(np.linalg.norm(one) * np.linalg.norm(other))
        worst = max(worst, 1 - float(one @ other) / length if length else float(np.any(one != other)))
    return worst
