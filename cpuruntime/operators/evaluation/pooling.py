"""Pools."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, integers, is_float, many, optional, widest
from cpuruntime.operators.evaluation.windows import Windows, find_windows


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if is_float(dtype) else np.iinfo(dtype).min


def _max_pool(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """The first of equal elements counts; NaN is larger than every number."""
    x = widest(arrays[0])
    windows = find_windows(node, x.shape[2:], node.attributes["kernel_shape"])
    best = np.full((*x.shape[:2], *windows.counts), _lowest(x.dtype), x.dtype)
    extended = windows.padded(x, _lowest(x.dtype))
    if many(node) == 1:
        for _, elements in windows.offsets(extended):
            np.maximum(best, elements, out=best)
        return (best.astype(arrays[0].dtype),)
    places = np.full(best.shape, -1, np.int64)
    numbers = _numbers(node, x.shape[2:])
    inside = windows.padded(np.broadcast_to(numbers, (1, 1, *x.shape[2:])), -1)
    for (_, elements), (_, number) in zip(windows.offsets(extended), windows.offsets(inside)):
        better = (elements > best) | (np.isnan(elements) & ~np.isnan(best)) | ((places < 0) & (number >= 0))
        best = np.where(better, elements, best)
        places = np.where(better, number, places)
    image = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    return (best.astype(arrays[0].dtype), places + image * math.prod(x.shape[2:]))


def _numbers(node: Node, extents: tuple[int, ...]) -> np.ndarray:
    """The number of each element of an image, by rows or by columns."""
    order = "F" if attribute(node, "storage_order") else "C"
    return np.arange(math.prod(extents)).reshape(extents, order=order)


def _average_pool(node: Node, arrays: Arrays) -> np.ndarray:
    """Padding counts when the node says so, but never what lies behind it."""
    x = widest(arrays[0])
    windows = find_windows(node, x.shape[2:], node.attributes["kernel_shape"])
    ones = np.ones((1, 1, *x.shape[2:]))
    if attribute(node, "count_include_pad"):
        ones = np.pad(ones, [(0, 0), (0, 0), *zip(windows.before, windows.after)], constant_values=1)
        none = (0,) * len(windows.kernel)
        counted = Windows(windows.kernel, windows.strides, windows.dilations, none, none, windows.counts)
    else:
        counted = windows
    terms, count = _total(windows, x), _total(counted, ones)
    return (terms / count).astype(arrays[0].dtype)


def _total(windows: Windows, x: np.ndarray) -> np.ndarray:
    total = np.zeros((*x.shape[:2], *windows.counts), x.dtype)
    for _, elements in windows.offsets(windows.padded(x, 0)):
        total += elements
    return total


def _lp_pool(node: Node, arrays: Arrays) -> np.ndarray:
    x, p = widest(arrays[0]), attribute(node, "p")
    windows = find_windows(node, x.shape[2:], node.attributes["kernel_shape"])
    return (_total(windows, np.abs(x) ** p) ** (1 / p)).astype(arrays[0].dtype)


def _spatial(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_average_pool(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    return widest(x).mean(_spatial(x), keepdims=True).astype(x.dtype)


def _global_max_pool(node: Node, arrays: Arrays) -> np.ndarray:
    x = widest(arrays[0])
    return x.max(_spatial(x), keepdims=True, initial=_lowest(x.dtype)).astype(arrays[0].dtype)


def _global_lp_pool(node: Node, arrays: Arrays) -> np.ndarray:
    x, p = arrays[0], attribute(node, "p")
    return ((np.abs(widest(x)) ** p).sum(_spatial(x), keepdims=True) ** (1 / p)).astype(x.dtype)


def _max_unpool(node: Node, arrays: Arrays) -> np.ndarray:
    x, indices, given = arrays[0], arrays[1], optional(arrays, 2)
    kernel, rank = node.attributes["kernel_shape"], x.ndim - 2
    strides, pads = attribute(node, "strides") or [1] * rank, attribute(node, "pads") or [0] * 2 * rank
    extents = [
        (n - 1) * s + k - pads[i] - pads[i + rank] for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel))
    ]
    shape = (*x.shape[:2], *extents)
    wanted = shape if given is None else tuple(integers(given))
    places = np.unravel_index(indices, shape)  # the places are those of the image that was pooled
    result = np.zeros(wanted, x.dtype)
    result[places] = x
    return result


TABLE: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_max_pool,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
}
