"""Resize and Upsample: separable interpolation, one axis after the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import (
    Arrays,
    Rule,
    attribute,
    integers,
    normal_axis,
    optional,
    widest,
)
from cpuruntime.records import record


@record
class _Axis:
    """One axis that is resized: extents before and after, the scale, and where the region lies."""

    axis: int
    before: int
    after: int
    scale: float
    start: float
    end: float

    def places(self, mode: str) -> np.ndarray:
        """For each element of the result, where it lies in the input."""
        x = np.arange(self.after, dtype=np.float64)
        scale, before, after = self.scale, self.before, self.after
        if mode == "align_corners":
            return x * (before - 1) / (after - 1) if after > 1 else x * 0
        if mode == "asymmetric":
            return x / scale
        if mode == "tf_crop_and_resize":
            if after > 1:
                return self.start * (before - 1) + x * (self.end - self.start) * (before - 1) / (after - 1)
            return x * 0 + 0.5 * (self.start + self.end) * (before - 1)
        if mode == "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
        half = (x + 0.5) / scale - 0.5
        if mode == "pytorch_half_pixel":
            return half if after > 1 else x * 0
        if mode == "half_pixel_symmetric":
            adjusted = after / (scale * before) if scale * before else 1.0
            return before / 2 * (1 - adjusted) + half
        if mode == "half_pixel":
            return half
        raise ModelError(f"there is no coordinate_transformation_mode '{mode}'.")


_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _linear(distance: np.ndarray, a: float) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(distance))


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _weights(node: Node, axis: _Axis, places: np.ndarray) -> np.ndarray:
    """[after, before]: what each element of the input is worth to each of the result."""
    cubic = attribute(node, "mode") == "cubic"
    function, reach = (_cubic, 2.0) if cubic else (_linear, 1.0)
    squeeze = min(axis.scale, 1.0) if attribute(node, "antialias") else 1.0
    first = np.floor(places - reach / squeeze).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(2 * reach / squeeze) + 2)
    values = function((taps - places[:, None]) * squeeze, attribute(node, "cubic_coeff_a") or -0.75)
    outside = (taps < 0) | (taps >= axis.before)
    if attribute(node, "exclude_outside"):
        values = np.where(outside, 0, values)
    total = values.sum(1, keepdims=True)
    values = np.divide(values, total, out=values, where=total != 0)
    matrix = np.zeros((axis.after, axis.before))
    np.add.at(matrix, (np.arange(axis.after)[:, None], np.clip(taps, 0, axis.before - 1)), values)
    return matrix


def _resize_axis(node: Node, x: np.ndarray, axis: _Axis) -> np.ndarray:
    mode = attribute(node, "coordinate_transformation_mode") or "asymmetric"
    places = axis.places(mode)
    if attribute(node, "mode") == "nearest":
        if node.version < 11:  # not stated; as ONNX Runtime does
            nearest = np.ceil(places) if axis.scale < 1 else np.floor(places)
        else:
            nearest = _ROUNDINGS[attribute(node, "nearest_mode")](places)
        y = np.take(x, np.clip(nearest, 0, axis.before - 1).astype(np.int64), axis.axis)
    else:
        y = np.moveaxis(np.tensordot(_weights(node, axis, places), x, (1, axis.axis)), 0, axis.axis)
    if mode == "tf_crop_and_resize":
        outside = (places < 0) | (places > axis.before - 1)
        shape = [-1 if place == axis.axis else 1 for place in range(x.ndim)]
        y = np.where(outside.reshape(shape), attribute(node, "extrapolation_value"), y)
    return y


def _resize(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    y = x if attribute(node, "mode") == "nearest" else widest(x).astype(np.float64)
    for axis in _axes(node, arrays):
        if axis.before != axis.after or axis.scale != 1 or axis.start != 0 or axis.end != 1:
            y = _resize_axis(node, y, axis)
    if x.dtype.kind in "iu" and y.dtype.kind == "f":
        limits = np.iinfo(x.dtype)
        y = np.clip(np.trunc(y), limits.min, limits.max)
    return y.astype(x.dtype)


def resized_shape(node: Node, arrays: Arrays) -> tuple[int, ...]:
    """The shape of the result."""
    after = {axis.axis: axis.after for axis in _axes(node, arrays)}
    return tuple(after.get(axis, extent) for axis, extent in enumerate(arrays[0].shape))


def _axes(node: Node, arrays: Arrays) -> list[_Axis]:
    x = arrays[0]
    given = attribute(node, "axes")
    axes = list(range(x.ndim)) if given is None else [normal_axis(node, axis, x.ndim) for axis in given]
    before = [x.shape[axis] for axis in axes]
    if node.op_type == "Upsample" or node.version < 11:
        scales = attribute(node, "scales") if node.version < 9 else widest(arrays[1]).tolist()
        sizes = roi = None
    else:
        roi, scales, sizes = (optional(arrays, index) for index in (1, 2, 3))
        roi = None if roi is None or not roi.size else widest(roi).tolist()
        sizes = None if sizes is None or not sizes.size else integers(sizes)
        scales = None if scales is None or not scales.size or sizes is not None else widest(scales).tolist()
    cropped = attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize" and roi is not None
    starts, ends = (roi[: len(axes)], roi[len(axes) :]) if cropped else ([0.0] * len(axes), [1.0] * len(axes))
    if sizes is not None:
        if min(sizes) < 0:
            raise ModelError(f"{node.where}: the sizes {sizes} must not be negative.")
        scales = _scales(node, sizes, before)
        if attribute(node, "keep_aspect_ratio_policy") in ("not_larger", "not_smaller"):
            sizes = [math.floor(scale * n + 0.5) for scale, n in zip(scales, before)]
    elif scales is not None:
        if not all(0 < scale < math.inf for scale in scales):
            raise ModelError(f"{node.where}: the scales {scales} must be positive numbers.")
        sizes = [math.floor(n * scale) for n, scale in zip(before, scales)]  # regions do not count, as ONNX infers it
    if sizes is None or len(sizes) != len(axes) or len(scales) != len(axes):
        raise ModelError(f"{node.where}: it needs {len(axes)} scales or sizes.")
    return [_Axis(*row) for row in zip(axes, before, sizes, scales, starts, ends)]


def _scales(node: Node, sizes: list[int], before: list[int]) -> list[float]:
    scales = [size / n if n else 1.0 for size, n in zip(sizes, before)]
    policy = attribute(node, "keep_aspect_ratio_policy")
    if policy == "not_larger":
        return [min(scales)] * len(scales)
    return [max(scales)] * len(scales) if policy == "not_smaller" else scales


TABLE: dict[str, Rule] = {"Resize": _resize, "Upsample": _resize}
