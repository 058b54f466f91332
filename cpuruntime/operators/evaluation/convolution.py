"""Convolutions of all kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, optional, wide
from cpuruntime.operators.evaluation.windows import Windows, find_windows

MOST_COLUMNS = 2**24
"""Elements of all windows that are laid out side by side for one product; arbitrary."""


def convolve(node: Node, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums of products without a bias, in the type of `x`."""
    group, rank = attribute(node, "group"), x.ndim - 2
    if x.shape[1] != weights.shape[1] * group or weights.shape[0] % group:
        raise ModelError(f"{node.where}: {x.shape[1]} channels, weights of {list(weights.shape)}, {group} groups.")
    windows = find_windows(node, x.shape[2:], weights.shape[2:])
    batch, (outputs, inputs), size = x.shape[0], weights.shape[:2], math.prod(windows.kernel)
    padded, pixels = windows.padded(x, 0), math.prod(windows.counts)
    if inputs == 1 and outputs == group:  # depthwise: no products of matrices
        result = np.zeros((batch, outputs, *windows.counts), x.dtype)
        for place, elements in windows.offsets(padded):
            result += elements * _channels(weights[(slice(None), 0, *place)], rank)
        return result
    flat = weights.reshape(group, outputs // group, inputs * size)
    if size == 1:
        ((_, elements),) = windows.offsets(padded)
        columns = elements.reshape(batch, group, inputs, pixels)
    elif batch * group * inputs * size * pixels <= MOST_COLUMNS:
        columns = np.empty((batch, group, inputs, size, pixels), x.dtype)
        for index, (_, elements) in enumerate(windows.offsets(padded)):
            columns[:, :, :, index] = elements.reshape(batch, group, inputs, pixels)
        columns = columns.reshape(batch, group, inputs * size, pixels)
    else:
        parts = np.moveaxis(flat.reshape(group, outputs // group, inputs, size), 3, 0).copy()
        result = np.zeros((batch, group, outputs // group, pixels), x.dtype)
        for part, (_, elements) in zip(parts, windows.offsets(padded)):
            result += part @ elements.reshape(batch, group, inputs, pixels)
        return result.reshape(batch, outputs, *windows.counts)
    return (flat @ columns).reshape(batch, outputs, *windows.counts)


def _channels(array: np.ndarray, rank: int) -> np.ndarray:
    return array.reshape(-1, *[1] * rank)


def _conv(node: Node, arrays: Arrays) -> np.ndarray:
    x, bias = arrays[0], optional(arrays, 2)
    y = convolve(node, wide(x), wide(arrays[1]))
    return (y if bias is None else y + _channels(wide(bias), x.ndim - 2)).astype(x.dtype)


def centred(array: np.ndarray, zero_point: Any, axis: int | None = None) -> np.ndarray:
    """Quantised numbers without their zero point as float64, in which sums of products are exact."""
    zero = np.asarray(0 if zero_point is None else zero_point).astype(np.float64)
    if zero.ndim and axis is not None and zero.size > 1:
        zero = zero.reshape([-1 if place == axis else 1 for place in range(array.ndim)])
    return array.astype(np.float64) - (zero.reshape(()) if zero.size == 1 else zero)


def _conv_integer(node: Node, arrays: Arrays) -> np.ndarray:
    x, weights = arrays[:2]
    y = convolve(node, centred(x, optional(arrays, 2)), centred(weights, optional(arrays, 3), 0))
    return y.astype(np.int64).astype(np.int32)


def requantise(y: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """Numbers in steps of the scale, rounded to even and saturated as the zero point's type."""
    limits = np.iinfo(zero_point.dtype)
    return np.clip(np.rint(y) + zero_point.astype(np.float64), limits.min, limits.max).astype(zero_point.dtype)


def _qlinear_conv(node: Node, arrays: Arrays) -> np.ndarray:
    x, x_scale, x_zero, weights, w_scale, w_zero, y_scale, y_zero = arrays[:8]
    y, bias = convolve(node, centred(x, x_zero), centred(weights, w_zero, 0)), optional(arrays, 8)
    rank = x.ndim - 2
    y = y if bias is None else y + _channels(bias, rank)
    scale = np.float32(x_scale).reshape(()) * w_scale.astype(np.float32) / np.float32(y_scale).reshape(())
    return requantise((y * _channels(scale, rank)).astype(np.float32), y_zero.reshape(()))


def transposed_windows(node: Node, extents: Sequence[int], kernel: Sequence[int]) -> Windows:
    """`counts` are the extents of the result; the padding is what is cut off in front and behind."""
    rank = len(extents)
    strides, dilations = (tuple(attribute(node, name) or [1] * rank) for name in ("strides", "dilations"))
    extra, pads = attribute(node, "output_padding") or [0] * rank, attribute(node, "pads") or [0] * 2 * rank
    auto, wanted = attribute(node, "auto_pad"), attribute(node, "output_shape")
    before, after, counts = [], [], []
    for i, (n, k, s, d) in enumerate(zip(extents, kernel, strides, dilations)):
        full = (n - 1) * s + (k - 1) * d + 1 + extra[i]
        begin, end = (0, 0) if auto == "VALID" else (pads[i], pads[i + rank])
        if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
            total = full - (n * s if wanted is None else wanted[len(wanted) - rank + i])
            begin = max(0, total) // 2 if auto == "SAME_UPPER" else (max(0, total) + 1) // 2
            end = total - begin  # negative where zeros follow the elements
        before.append(begin)
        after.append(end)
        counts.append(full - begin - end)
    return Windows(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(counts))


def _conv_transpose(node: Node, arrays: Arrays) -> np.ndarray:
    x, weights, bias = wide(arrays[0]), wide(arrays[1]), optional(arrays, 2)
    group, extents = attribute(node, "group"), x.shape[2:]
    windows = transposed_windows(node, extents, weights.shape[2:])
    if min(windows.counts) < 0:
        raise ModelError(f"{node.where}: its output would have the extents {list(windows.counts)}.")
    parts = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
    columns = x.reshape(x.shape[0], group, parts.shape[1], math.prod(extents))
    spans = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(
        extents, windows.strides, windows.kernel, windows.dilations)]  # fmt: skip
    room = [max(span, max(0, begin) + count) for span, begin, count in zip(spans, windows.before, windows.counts)]
    full = np.zeros((x.shape[0], group * weights.shape[1], *room), x.dtype)
    for place in np.ndindex(*weights.shape[2:]):
        spots = (slice(o * d, o * d + (n - 1) * s + 1, s) if n else slice(0, 0) for o, d, n, s in zip(
            place, windows.dilations, extents, windows.strides))  # fmt: skip
        added = np.swapaxes(parts[(..., *place)], 1, 2) @ columns
        full[(slice(None), slice(None), *spots)] += added.reshape(x.shape[0], group * weights.shape[1], *extents)
    cropped = _cropped(full, windows)
    return (cropped if bias is None else cropped + _channels(wide(bias), len(extents))).astype(arrays[0].dtype)


def _cropped(full: np.ndarray, windows: Windows) -> np.ndarray:
    """Negative padding adds zeros instead."""
    zeros = [(0, 0), (0, 0)]
    spots = []
    for extent, begin, count in zip(full.shape[2:], windows.before, windows.counts):
        zeros.append((max(0, -begin), max(0, begin + count - extent)))
        spots.append(slice(max(0, begin), max(0, begin) + count))
    return np.pad(full, zeros)[(slice(None), slice(None), *spots)]


def _deform_conv(node: Node, arrays: Arrays) -> np.ndarray:
    """Each element of a window is read, interpolated, at a place moved by an offset; outside lie zeros."""
    x, weights, offsets = (wide(array).astype(np.float64) for array in arrays[:3])
    bias, mask = optional(arrays, 3), optional(arrays, 4)
    batch, channels, rank = x.shape[0], x.shape[1], x.ndim - 2
    group, shifts = attribute(node, "group"), attribute(node, "offset_group")
    windows = find_windows(node, x.shape[2:], weights.shape[2:])
    kernel, counts, size = windows.kernel, windows.counts, math.prod(windows.kernel)
    moves = offsets.reshape(batch, shifts, size, rank, *counts)
    factors = None if mask is None else wide(mask).reshape(batch, shifts, size, *counts)
    starts = np.meshgrid(*(np.arange(c) * s - b for c, s, b in zip(counts, windows.strides, windows.before)),
                         indexing="ij")  # fmt: skip
    parts = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
    result = np.zeros((batch, group, parts.shape[1], math.prod(counts)))
    for index, place in enumerate(np.ndindex(*kernel)):
        spots = [start + o * d + moves[:, :, index, axis] for axis, (start, o, d) in enumerate(
            zip(starts, place, windows.dilations))]  # fmt: skip
        elements = _interpolated(x.reshape(batch, shifts, channels // shifts, *x.shape[2:]), spots)
        elements = elements if factors is None else elements * factors[:, :, index, None]
        result += parts[(..., *place)] @ elements.reshape(batch, group, channels // group, -1)
    y = result.reshape(batch, weights.shape[0], *counts)
    return (y if bias is None else y + _channels(wide(bias), rank)).astype(arrays[0].dtype)


def _interpolated(x: np.ndarray, spots: list[np.ndarray]) -> np.ndarray:
    """`x` is [batch, group, channels, spatial...], each of `spots` [batch, group, places...]."""
    extents = x.shape[3:]
    lead = np.ix_(range(x.shape[0]), range(x.shape[1]))
    lead = [index.reshape(index.shape + (1,) * (spots[0].ndim - 2)) for index in lead]
    total: Any = 0
    for corner in np.ndindex(*[2] * len(spots)):
        weight: Any = 1.0
        places = []
        for spot, high, extent in zip(spots, corner, extents):
            base = np.floor(spot)
            place = base + high
            weight = weight * np.where((place >= 0) & (place < extent), 1 - np.abs(spot - place), 0)
            places.append(np.clip(place, 0, extent - 1).astype(np.int64))
        elements = x[(lead[0], lead[1], slice(None), *places)]  # channels come last
        total = total + np.moveaxis(elements, -1, 2) * np.expand_dims(weight, 2)
    return total


TABLE: dict[str, Rule] = {
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "DeformConv": _deform_conv,
    "QLinearConv": _qlinear_conv,
}
