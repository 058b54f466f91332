"""What runs between programs by kernels: operators whose result's shape follows from the data, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.typed import FLOATS, HALVES, SIZES
from cpuruntime.graph import Node
from cpuruntime.ops.movement import gather
from cpuruntime.ops.non_max_suppression import non_max_suppression
from cpuruntime.ops.non_zero import non_zero, unravel
from cpuruntime.ops.unique import unique
from cpuruntime.program.lowerings import late_parameters as late
from cpuruntime.program.plan.lowering import along, axis_of
from cpuruntime.program.plan.packing import run_kernel

Compute = Callable[[Node, Sequence[Any]], "list[Any] | None"]


def _non_max_suppression(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    boxes, scores, limit, overlap, least = (*arrays, *[None] * 5)[:5]
    if boxes is None or scores is None or boxes.ndim != 3 or scores.ndim != 3:
        return None
    images, classes, count = scores.shape
    fits = boxes.shape == (images, count, 4) and boxes.dtype == scores.dtype == np.float32
    if not fits or any(given is not None and given.size != 1 for given in (limit, overlap, least)):
        return None
    most = 0 if limit is None else min(max(int(limit.reshape(-1)[0]), 0), count)
    selected = np.empty((images * classes, most, 3), np.int64)
    counts, order = np.zeros(images * classes, np.int64), np.empty(count, np.int64)
    run_kernel(
        non_max_suppression, boxes=boxes.ctypes.data, scores=scores.ctypes.data, selected=selected.ctypes.data,
        counts=counts.ctypes.data, order=order.ctypes.data, images=images, classes=classes, count=count, limit=most,
        center=node.attributes.get("center_point_box", 0),
        most_overlap=0.0 if overlap is None else float(overlap.reshape(-1)[0]),
        least_score=-np.inf if least is None else float(least.reshape(-1)[0]),
    )  # fmt: skip
    return [selected[np.arange(most) < counts[:, None]]]


def _places(x: np.ndarray) -> np.ndarray:
    """The numbers of the elements of `x` that are not zero; a negative zero is one."""
    places, found = np.empty(max(x.size, 1), np.int64), np.zeros(1, np.int64)
    sign = 1 << (8 * x.itemsize - 1) if x.dtype.name in (*FLOATS, *HALVES) else 0
    run_kernel(
        non_zero(x.itemsize), source=x.ctypes.data, places=places.ctypes.data, found=found.ctypes.data, size=x.size,
        mask=-1 if not sign else sign - 1,
    )  # fmt: skip
    return places[: found[0]]


def _non_zero(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    x = arrays[0]
    assert x is not None
    places, extents = _places(x), np.array(x.shape, np.int64)
    target = np.empty((x.ndim, len(places)), np.int64)
    run_kernel(
        unravel, places=places.ctypes.data, target=target.ctypes.data, count=len(places), rank=x.ndim,
        extents=extents.ctypes.data,
    )  # fmt: skip
    return [target]


def _slices(x: np.ndarray, axis: int, numbers: np.ndarray) -> np.ndarray:
    """The slices of `x` along an axis that have these numbers."""
    target = np.empty((*x.shape[:axis], len(numbers), *x.shape[axis + 1 :]), x.dtype)
    run_kernel(
        gather, source=x.ctypes.data, target=target.ctypes.data, indices=numbers.ctypes.data, index_bytes=8,
        outer=prod(x.shape[:axis]), axis=x.shape[axis], count=len(numbers),
        inner_bytes=prod(x.shape[axis + 1 :]) * x.itemsize,
    )  # fmt: skip
    return target


def _compress(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    x, condition = arrays
    if x is None or condition is None or condition.ndim != 1:
        return None
    axis = node.attributes.get("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_of(node, axis, x.ndim)
    return [_slices(x, axis, _places(condition[: x.shape[axis]]))]


def _unique(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    x = arrays[0]
    assert x is not None
    axis = node.attributes.get("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_of(node, axis, x.ndim)
    length = x.shape[axis]
    first, inverse, counts, order, spare = np.empty((5, max(length, 1)), np.int64)
    found = np.zeros(1, np.int64)
    tables = dict(first=first, inverse=inverse, counts=counts, order=order, spare=spare, found=found)
    appearance = not node.attributes.get("sorted", 1)
    run_kernel(
        unique(x.dtype.name), source=x.ctypes.data, appearance=appearance,
        **{name: table.ctypes.data for name, table in tables.items()}, **along(x.shape, axis),
    )  # fmt: skip
    groups = int(found[0])
    return [_slices(x, axis, first[:groups]), first[:groups], inverse[:length], counts[:groups]][: len(node.outputs)]


COMPUTED: dict[str, tuple[str, Compute]] = {
    "Compress": ("non_zero, gather", _compress),
    "ConcatFromSequence": ("copy", late.joined),
    "ConstantOfShape": ("fill", late.filled),
    "Expand": ("copy", late.expanded),
    "NonMaxSuppression": (non_max_suppression.name, _non_max_suppression),
    "NonZero": ("non_zero", _non_zero),
    **dict.fromkeys(("Reshape", "Slice", "Squeeze", "Unsqueeze"), ("copy", late.moved)),
    "Resize": ("resize_plain", late.resized),
    "SplitToSequence": ("copy", late.split),
    "Unique": ("unique", _unique),
}
"""The names of the kernels and their calls, by operator of ONNX."""


def _entry(node: Node) -> tuple[str, Compute] | None:
    return COMPUTED.get(node.op_type) if node.domain == "" else None


def kernel_of(node: Node) -> str:
    """The names of the kernels of an ONNX node; empty where there is none."""
    if node.domain == "" and node.op_type in late.LISTS:
        return "list"
    entry, kinds = _entry(node), [value.element_type for value in node.inputs[:1] if value is not None]
    unknown = any(kind.is_static() and kind.to_dtype().name not in SIZES for kind in kinds)
    return "" if entry is None or unknown else entry[0]


def compute(node: Node, arrays: Sequence[Any]) -> list[Any] | None:
    """The results of an ONNX node on C-contiguous arrays that nobody else writes to; None where there is no kernel."""
    entry = _entry(node)
    first = arrays[0] if entry is not None and isinstance(arrays[0], list) else arrays[:1]
    if entry is None or any(array is None or array.dtype.name not in SIZES for array in first):
        return None
    return entry[1](node, arrays)
