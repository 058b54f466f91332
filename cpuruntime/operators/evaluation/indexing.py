"""Operators that read or write by index, and those that find indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, integers, normal_axis, optional, wide


def _positions(node: Node, indices: np.ndarray, extent: int) -> np.ndarray:
    """The indices counted from the front; ModelError for one outside."""
    if indices.size and (indices.min() < -extent or indices.max() >= extent):
        found = int(indices.min() if indices.min() < -extent else indices.max())
        raise ModelError(f"{node.where}: index {found} must be between {-extent} and {extent - 1}.")
    return np.where(indices < 0, indices + extent, indices).astype(np.int64)


def _gather(node: Node, arrays: Arrays) -> np.ndarray:
    return np.take(*arrays, attribute(node, "axis"))


def _gather_elements(node: Node, arrays: Arrays) -> np.ndarray:
    x, indices = arrays
    axis = normal_axis(node, attribute(node, "axis"), x.ndim)
    places: list[Any] = list(np.ix_(*map(range, indices.shape)))
    places[axis] = _positions(node, indices, x.shape[axis])
    return x[tuple(places)]


def _gather_nd(node: Node, arrays: Arrays) -> np.ndarray:
    x, indices = arrays
    lead, depth = attribute(node, "batch_dims") or 0, indices.shape[-1]
    places = [_positions(node, indices[..., i], x.shape[lead + i]) for i in range(depth)]
    rows = np.ix_(*map(range, indices.shape[:lead]))
    rows = [row.reshape(row.shape + (1,) * (indices.ndim - 1 - lead)) for row in rows]
    result = x[(*rows, *places)] if rows or places else np.broadcast_to(x, (*indices.shape[:-1], *x.shape))
    return result.copy()


_REDUCTIONS: dict[str, np.ufunc] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _put(node: Node, x: np.ndarray, places: tuple[Any, ...], updates: np.ndarray) -> np.ndarray:
    """A copy of `x` with the updates at the places, in order."""
    how = attribute(node, "reduction") or "none"
    result = wide(x).copy()
    if how == "none":
        result[places] = updates
    else:
        _REDUCTIONS[how].at(result, places, wide(updates))
    return result.astype(x.dtype)


def _scatter_elements(node: Node, arrays: Arrays) -> np.ndarray:
    x, indices, updates = arrays
    axis = normal_axis(node, attribute(node, "axis"), x.ndim)
    places: list[Any] = list(np.indices(indices.shape, sparse=True))
    places[axis] = _positions(node, indices, x.shape[axis])
    return _put(node, x, tuple(np.broadcast_arrays(*places)), updates)


def _scatter_nd(node: Node, arrays: Arrays) -> np.ndarray:
    x, indices, updates = arrays
    places = tuple(_positions(node, indices[..., i], x.shape[i]) for i in range(indices.shape[-1]))
    if not places:
        x = np.broadcast_to(x, np.broadcast_shapes(x.shape, updates.shape)) if updates.ndim <= x.ndim else x
    return _put(node, x, places or (Ellipsis,), updates)


def _tensor_scatter(node: Node, arrays: Arrays) -> np.ndarray:
    cache, update, starts = arrays[0], arrays[1], optional(arrays, 2)
    axis = normal_axis(node, attribute(node, "axis"), cache.ndim)
    result = np.moveaxis(cache.copy(), axis, 1)
    rows, length = np.moveaxis(update, axis, 1), result.shape[1]
    for batch in range(len(result)):
        places = np.arange(rows.shape[1]) + (0 if starts is None else int(starts[batch]))
        if attribute(node, "mode") == "circular":
            places %= length
        elif len(places) and (places[0] < 0 or places[-1] >= length):
            raise ModelError(f"{node.where}: rows {places[0]} to {places[-1]} do not fit into {length}.")
        result[batch, places] = rows[batch]
    return np.moveaxis(result, 1, axis)


def _one_hot(node: Node, arrays: Arrays) -> np.ndarray:
    indices, depth, (off, on) = arrays[0], integers(arrays[1])[0], arrays[2]
    axis = normal_axis(node, attribute(node, "axis"), indices.ndim + 1)
    classes = np.arange(depth).reshape([-1 if place == axis else 1 for place in range(indices.ndim + 1)])
    wanted = np.expand_dims(np.where(indices < 0, indices + depth, indices), axis)
    return np.where(classes == wanted, on, off).astype(arrays[2].dtype)


def _compress(node: Node, arrays: Arrays) -> np.ndarray:
    x, condition = arrays
    axis = attribute(node, "axis")
    extent = x.size if axis is None else x.shape[axis]
    return np.compress(condition[:extent], x, axis)


def _non_zero(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    return np.array(np.nonzero(wide(x)), np.int64) if x.ndim else np.zeros((0, int(x != 0)), np.int64)


def _unique(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    x, axis = arrays[0], attribute(node, "axis")
    found, first, inverse, counts = np.unique(wide(x), True, True, True, axis)
    if not attribute(node, "sorted"):
        order = np.argsort(first, kind="stable")
        found, first, counts = np.take(found, order, 0 if axis is None else axis), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return found.astype(x.dtype), *(a.astype(np.int64).reshape(-1) for a in (first, inverse, counts))


def _ascending(x: np.ndarray) -> np.ndarray:
    """Stable positions along the last axis in rising order."""
    return np.argsort(wide(x), -1, kind="stable")


def _descending(x: np.ndarray) -> np.ndarray:
    """Stable positions along the last axis in falling order."""
    return x.shape[-1] - 1 - _ascending(x[..., ::-1])[..., ::-1]


def _top_k(node: Node, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    count = node.attributes["k"] if node.version < 10 else integers(arrays[1])[0]
    axis = normal_axis(node, attribute(node, "axis"), arrays[0].ndim)
    x = np.moveaxis(arrays[0], axis, -1)
    if not 0 <= count <= x.shape[-1]:
        raise ModelError(f"{node.where}: k is {count}; the axis has {x.shape[-1]} elements.")
    largest = node.version < 11 or attribute(node, "largest")
    order = (_descending if largest else _ascending)(x)[..., :count]
    values = np.take_along_axis(x, order, -1)
    return np.moveaxis(values, -1, axis), np.moveaxis(order.astype(np.int64), -1, axis)


def _arg(find: Callable[..., Any]) -> Rule:
    def run(node: Node, arrays: Arrays) -> np.ndarray:
        x, axis = wide(arrays[0]), normal_axis(node, attribute(node, "axis"), arrays[0].ndim)
        if x.shape[axis] == 0:
            raise ModelError(f"{node.where}: axis {axis} has no elements to choose from.")
        if attribute(node, "select_last_index"):
            found = x.shape[axis] - 1 - find(np.flip(x, axis), axis)
        else:
            found = find(x, axis)
        return np.asarray(np.expand_dims(found, axis) if attribute(node, "keepdims") else found, np.int64)

    return run


TABLE: dict[str, Rule] = {
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "TopK": _top_k,
    "Unique": _unique,
}
