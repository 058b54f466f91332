"""Operators whose result's shape follows from the data, by kernels that write as much as there may be and a count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Node
from cpuruntime.ops.non_max_suppression import non_max_suppression
from cpuruntime.program.plan.packing import run_kernel

Compute = Callable[[Node, Sequence["np.ndarray | None"]], "list[np.ndarray] | None"]


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


_COMPUTED: dict[str, tuple[Kernel, Compute]] = {"NonMaxSuppression": (non_max_suppression, _non_max_suppression)}


def kernel_of(node: Node) -> str:
    """The name of the kernel of an ONNX node; empty where there is none."""
    return _COMPUTED[node.op_type][0].name if node.domain == "" and node.op_type in _COMPUTED else ""


def compute(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The results of an ONNX node on C-contiguous arrays that nobody else writes to; None where there is no kernel."""
    return _COMPUTED[node.op_type][1](node, arrays) if kernel_of(node) else None
