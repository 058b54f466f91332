"""Which source pixels each target pixel of a Resize is made of, and with which weights, along one axis.

Positions are computed in float32 as ONNX Runtime does, so that ties between neighbours fall the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np

from cpuruntime.records import record

Positions = Callable[[np.ndarray, np.float32, int, int], np.ndarray]

HALF, ONE = np.float32(0.5), np.float32(1)


@record
class Taps:
    """`indices` and `weights` are [target extent, taps], an even number of taps or one. Indices lie inside the source;
    that of a target pixel beyond the source may be -1."""

    indices: np.ndarray
    weights: np.ndarray


def _half_pixel(x: np.ndarray, scale: np.float32, source: int, target: int) -> np.ndarray:
    return (x + HALF) / scale - HALF


def _pytorch_half_pixel(x: np.ndarray, scale: np.float32, source: int, target: int) -> np.ndarray:
    return (x + HALF) / scale - HALF if target > 1 else np.zeros_like(x)


def _symmetric(x: np.ndarray, scale: np.float32, source: int, target: int) -> np.ndarray:
    adjustment = np.float32(target) / (scale * np.float32(source))
    return np.float32(source) * HALF * (ONE - adjustment) + (x + HALF) / scale - HALF


def _align_corners(x: np.ndarray, scale: np.float32, source: int, target: int) -> np.ndarray:
    return x * np.float32(source - 1) / np.float32(target - 1) if target > 1 else np.zeros_like(x)


POSITIONS: dict[str, Positions] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "half_pixel_symmetric": _symmetric,
    "align_corners": _align_corners,
    "asymmetric": lambda x, scale, source, target: x / scale,
    "tf_half_pixel_for_nn": lambda x, scale, source, target: (x + HALF) / scale,
}

ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - HALF),
    "round_prefer_ceil": lambda x: np.floor(x + HALF),
    "floor": np.floor,
    "ceil": np.ceil,
}


def positions(mode: str, scale: float, source: int, target: int) -> np.ndarray:
    """Where in the source each target pixel lies, a float32 that may be outside."""
    x = np.arange(target, dtype=np.float32)
    return x if scale == 1 else POSITIONS[mode](x, np.float32(scale), source, target)


def cropped(start: float, end: float, source: int, target: int) -> np.ndarray:
    """The positions for the region of the source from `start` to `end`, which are 0 to 1 for all of it."""
    x, reach = np.arange(target, dtype=np.float32), np.float32(source - 1)
    start, end = np.float32(start), np.float32(end)
    if target > 1:
        return start * reach + x * (end - start) * reach / np.float32(target - 1)
    return HALF * (start + end) * reach + np.zeros_like(x)


def beyond(taps: Taps, at: np.ndarray, source: int) -> Taps:
    """The taps, of positions outside of the source -1."""
    outside = (at < 0) | (at > source - 1)
    return Taps(np.where(outside[:, None], -1, taps.indices), taps.weights)


def nearest(at: np.ndarray, rounding: str, source: int) -> Taps:
    """The source pixel at or next to each position."""
    indices = np.clip(ROUNDINGS[rounding](at), 0, source - 1).astype(np.int64)
    return Taps(indices[:, None], np.ones((len(at), 1), np.float32))


def linear(at: np.ndarray, source: int) -> Taps:
    """The two source pixels around each position, weighted by nearness."""
    at = np.clip(at, 0, source - 1)
    low = at.astype(np.int64)
    part = at - low.astype(np.float32)
    return Taps(np.stack([low, np.minimum(low + 1, source - 1)], 1), np.stack([ONE - part, part], 1))


@np.errstate(invalid="ignore", over="ignore")
def _cubic_weights(distance: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def widened(at: np.ndarray, source: int, scale: float, a: float | None, exclude_outside: bool) -> Taps:
    """All source pixels that a target pixel covers, when it shrinks by `scale` without aliasing; cubic with a
    coefficient `a`, else linear."""
    squeeze, reach = min(scale, 1.0), 1.0 if a is None else 2.0
    count = ceil(2 * reach / squeeze) + 2
    wanted = np.floor(at - reach / squeeze).astype(np.int64)[:, None] + np.arange(count + count % 2)
    distance = np.abs(wanted - at[:, None]) * squeeze
    weights = np.maximum(0, 1 - distance) if a is None else _cubic_weights(distance, a)
    if exclude_outside:
        weights = np.where((wanted >= 0) & (wanted < source), weights, 0)
    weights = weights / weights.sum(1, keepdims=True)
    return Taps(np.clip(wanted, 0, source - 1), weights.astype(np.float32))


def cubic(at: np.ndarray, source: int, a: float, exclude_outside: bool) -> Taps:
    """Four source pixels around each position, weighted by the cubic convolution of coefficient `a`."""
    low = np.floor(at)
    distance = np.abs((at - low)[:, None] - np.arange(-1, 3, dtype=np.float32))
    weights = _cubic_weights(distance, a)
    wanted = low.astype(np.int64)[:, None] + np.arange(-1, 3)
    if exclude_outside:
        weights = np.where((wanted >= 0) & (wanted < source), weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
    return Taps(np.clip(wanted, 0, source - 1), weights.astype(np.float32))
