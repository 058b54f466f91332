"""What is measured of a value: a histogram that grows with what it is given, and the range of 8 bits chosen from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

import numpy as np

LEVELS = 255
_BINS = 4096
_PERCENTILES = (99.9, 99.99)
_SHARES = np.linspace(0.3, 0.98, 35)
"""How far below the extremes limits are tried."""
_CUT = 16.0
"""What the square of an error beyond the limits counts: large values matter more, and their errors do not cancel."""
_LEAST_REACH = 1e-30
_LEAST_SCALE = 1e-32
"""Far from the least normal float32, so that products of scales are normal, too."""


@dataclass(frozen=True)
class Range:
    """The limits that 0 and 255 stand for; `method` is how they were found, `error` the mean square expected."""

    low: float
    high: float
    method: str
    error: float

    @property
    def scale(self) -> float:
        """The step as float32 holds it. At least so large that no quotient by it overflows."""
        return float(max(np.float32((self.high - self.low) / LEVELS), np.float32(_LEAST_SCALE)))

    @property
    def zero_point(self) -> int:
        return int(np.clip(np.rint(-self.low / self.scale), 0, LEVELS))


class Histogram:
    """Counts of a value's elements in bins from -reach to reach, a power of two that doubles where it is passed."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.reach = 0.0
        self.least, self.most = np.inf, -np.inf
        self.zeros = 0

    def add(self, array: np.ndarray) -> None:
        """Count the elements, which are finite float32."""
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        self.least, self.most = min(self.least, low), max(self.most, high)
        largest = max(-low, high, _LEAST_REACH)
        if largest > self.reach:
            self._grow(2.0 ** ceil(log2(largest)))
        places = (array.ravel() * np.float32(_BINS / 2 / self.reach) + np.float32(_BINS / 2)).astype(np.int32)
        np.clip(places, 0, _BINS - 1, out=places)
        self.counts += np.bincount(places, minlength=_BINS)
        self.zeros += array.size - int(np.count_nonzero(array))

    def _grow(self, reach: float) -> None:
        while self.reach and self.reach < reach:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[_BINS // 4 : -_BINS // 4] = pairs
            self.reach *= 2
        self.reach = max(self.reach, reach)

    def range(self) -> Range:
        """The range of the least mean square of errors among the extremes, percentiles and shares of the extremes."""
        low, high = min(self.least, 0.0), max(self.most, 0.0)
        tried = [("min-max", low, high)]
        if high > low:
            tried += [(f"percentile {one:g}", *self._percentile(one, low, high)) for one in _PERCENTILES]
            tried += [("MSE", low * share, high * share) for share in map(float, _SHARES)]
        found = [Range(low, high, method, self.error(low, high)) for method, low, high in tried if high > low]
        return min(found, key=lambda one: one.error, default=Range(0.0, 1.0, "constant", 0.0))

    def error(self, low: float, high: float) -> float:
        """The mean square of the errors with these limits. Zeros have none."""
        centres = (np.arange(_BINS) + 0.5) * (2 * self.reach / _BINS) - self.reach
        beyond = np.maximum(centres - high, 0) + np.maximum(low - centres, 0)
        rounded = self.counts[beyond == 0].sum() - self.zeros
        cut = float((self.counts * beyond**2).sum())
        return (_CUT * cut + max(int(rounded), 0) * ((high - low) / LEVELS) ** 2 / 12) / max(int(self.counts.sum()), 1)

    def _percentile(self, share: float, low: float, high: float) -> tuple[float, float]:
        """The limits that leave (100 - share) % of the elements outside, half of them on each side that there is."""
        sums = np.cumsum(self.counts)
        outside = (1 - share / 100) * sums[-1] / (2 if low < 0 < high else 1)
        edges = np.arange(_BINS + 1) * (2 * self.reach / _BINS) - self.reach
        first = int(np.searchsorted(sums, outside, side="right"))
        last = int(np.searchsorted(sums, sums[-1] - outside))
        return (max(low, float(edges[first])) if low < 0 else 0.0), (
            min(high, float(edges[min(last + 1, _BINS)])) if high > 0 else 0.0
        )
