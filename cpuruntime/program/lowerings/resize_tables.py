"""Which source pixels each target pixel of a Resize is made of, and with which weights, along one axis.

Positions are computed in float32 as ONNX Runtime does, so that ties between neighbours fall the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Positions = Callable[[np.ndarray, np.float32, int, int], np.ndarray]

HALF, ONE = np.float32(0.5), np.float32(1)


@dataclass(frozen=True)
class Taps:
    """`indices` and `weights` are [target extent, taps]; indices lie inside the source."""

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
