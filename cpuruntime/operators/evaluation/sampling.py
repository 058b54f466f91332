"""Reading images at places between their elements: grids and regions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, integers, widest


def _affine_grid(node: Node, arrays: Arrays) -> np.ndarray:
    theta, size = widest(arrays[0]), integers(arrays[1])
    axes = []
    for extent in size[2:]:
        if attribute(node, "align_corners"):
            axes.append(np.linspace(-1, 1, extent) if extent > 1 else np.zeros(extent))
        else:
            axes.append((2 * np.arange(extent) + 1) / extent - 1)
    grids = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*grids[::-1], np.ones(size[2:])], -1).reshape(-1, len(size) - 1)
    grid = points @ theta.swapaxes(1, 2)
    return grid.reshape(size[0], *size[2:], len(size) - 2).astype(arrays[0].dtype)


def _unnormalised(grid: np.ndarray, extent: int, corners: bool) -> np.ndarray:
    return (grid + 1) / 2 * (extent - 1) if corners else ((grid + 1) * extent - 1) / 2


def _reflected(place: np.ndarray, low: float, high: float) -> np.ndarray:
    span = high - low
    if span <= 0:
        return np.zeros_like(place)
    distance = np.abs(place - low)
    turns, rest = np.floor(distance / span), np.mod(distance, span)
    return np.where(turns % 2 == 0, low + rest, high - rest)


def _bounds(extent: int, corners: bool) -> tuple[float, float]:
    return (0, extent - 1) if corners else (-0.5, extent - 0.5)


def _moved_inside(place: np.ndarray, extent: int, padding: str, corners: bool) -> np.ndarray:
    place = np.where(np.isfinite(place), place, -1.0)
    if padding == "border":
        return np.clip(place, 0, extent - 1)
    return np.clip(_reflected(place, *_bounds(extent, corners)), 0, extent - 1) if padding == "reflection" else place


def _cubic(t: np.ndarray) -> list[np.ndarray]:
    """The weights of the four neighbours."""
    a = -0.75

    def far(d: np.ndarray) -> np.ndarray:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    def near(d: np.ndarray) -> np.ndarray:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def _taps(place: np.ndarray, mode: str) -> list[tuple[np.ndarray, Any]]:
    """The elements along one axis that a place reads, with their weights."""
    if mode == "nearest":
        return [(np.rint(place), 1.0)]
    base = np.floor(place)
    if mode == "linear":
        return [(base, 1 - (place - base)), (base + 1, place - base)]
    return [(base + offset, weight) for offset, weight in zip((-1, 0, 1, 2), _cubic(place - base))]


def _grid_sample(node: Node, arrays: Arrays) -> np.ndarray:
    x, grid = widest(arrays[0]), widest(arrays[1])
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(attribute(node, "mode"), attribute(node, "mode"))
    padding, corners = attribute(node, "padding_mode"), bool(attribute(node, "align_corners"))
    extents = x.shape[2:]
    taps = []
    for axis, extent in enumerate(extents):
        place = _unnormalised(grid[..., len(extents) - 1 - axis], extent, corners)
        if mode != "cubic":
            place = _moved_inside(place, extent, padding, corners)
        taps.append(_taps(np.where(np.isfinite(place), place, -2.0), mode))
    batch = np.arange(x.shape[0]).reshape(-1, *[1] * (grid.ndim - 2))
    total: Any = 0
    for choice in np.ndindex(*map(len, taps)):
        weight: Any = 1.0
        spots = []
        for axis, extent in enumerate(extents):
            spot, factor = taps[axis][choice[axis]]
            spot = _moved_inside(spot, extent, padding, corners)
            weight = weight * factor * ((spot >= 0) & (spot < extent))
            spots.append(np.clip(spot, 0, extent - 1).astype(np.int64))
        total = total + x[(batch, slice(None), *spots)] * np.expand_dims(weight, -1)
    return np.moveaxis(total, -1, 1).astype(arrays[0].dtype)


def _bilinear(x: np.ndarray, extent: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper neighbours along one axis and their weights; both zero far outside."""
    inside = (x >= -1) & (x <= extent)
    place = np.clip(x, 0, extent - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, extent - 1)
    return low, high, inside * (1 - (place - low)), inside * (place - low)


def _roi_align(node: Node, arrays: Arrays) -> np.ndarray:
    """The average, or the largest weighted element, of points on a grid in each bin."""
    x, rois, batches = widest(arrays[0]), widest(arrays[1]), arrays[2]
    height, width = attribute(node, "output_height"), attribute(node, "output_width")
    half = node.version >= 16 and attribute(node, "coordinate_transformation_mode") == "half_pixel"
    result = np.zeros((len(rois), x.shape[1], height, width))
    for index, (roi, batch) in enumerate(zip(rois, batches)):
        left, top, right, bottom = roi * attribute(node, "spatial_scale") - (0.5 if half else 0)
        sizes = [bottom - top, right - left] if half else [max(bottom - top, 1.0), max(right - left, 1.0)]
        axes = [
            _bin_points(start, size, bins, attribute(node, "sampling_ratio"))
            for start, size, bins in zip((top, left), sizes, (height, width))
        ]
        counts = [points.size // bins for points, bins in zip(axes, (height, width))]
        if not all(counts):
            continue
        y_low, y_high, y0, y1 = _bilinear(axes[0], x.shape[2])
        x_low, x_high, x0, x1 = _bilinear(axes[1], x.shape[3])
        image = x[int(batch)]
        corners = [
            image[:, rows[:, None], columns] * (row_weights[:, None] * column_weights)
            for rows, row_weights in ((y_low, y0), (y_high, y1))
            for columns, column_weights in ((x_low, x0), (x_high, x1))
        ]
        average = attribute(node, "mode") == "avg"
        points = sum(corners) if average else np.maximum.reduce(corners)
        bins = points.reshape(-1, height, counts[0], width, counts[1])
        result[index] = bins.mean((2, 4)) if average else bins.max((2, 4))
    return result.astype(arrays[0].dtype)


def _bin_points(start: float, size: float, bins: int, ratio: int) -> np.ndarray:
    """Where the points of all bins lie along one axis."""
    count = ratio if ratio > 0 else max(0, math.ceil(size / bins))
    return start + (np.arange(bins)[:, None] + (np.arange(count) + 0.5) / max(count, 1)).reshape(-1) * (size / bins)


def _max_roi_pool(node: Node, arrays: Arrays) -> np.ndarray:
    x, rois = arrays
    height, width = node.attributes["pooled_shape"]
    result = np.zeros((len(rois), x.shape[1], height, width), x.dtype)
    for index, roi in enumerate(widest(rois)):
        left, top, right, bottom = (
            math.floor(abs(place) + 0.5) * (1 if place >= 0 else -1)
            for place in roi[1:] * attribute(node, "spatial_scale")
        )
        row_size, column_size = max(bottom - top + 1, 1) / height, max(right - left + 1, 1) / width
        for row, column in np.ndindex(height, width):
            rows = _span(row, row_size, top, x.shape[2])
            columns = _span(column, column_size, left, x.shape[3])
            part = x[int(roi[0]), :, rows, columns]
            if part.size:
                result[index, :, row, column] = part.max((1, 2))
    return result


def _span(index: int, size: float, start: int, extent: int) -> slice:
    first, last = math.floor(index * size) + start, math.ceil((index + 1) * size) + start
    return slice(min(max(first, 0), extent), min(max(last, 0), extent))


TABLE: dict[str, Rule] = {
    "AffineGrid": _affine_grid,
    "GridSample": _grid_sample,
    "MaxRoiPool": _max_roi_pool,
    "RoiAlign": _roi_align,
}
