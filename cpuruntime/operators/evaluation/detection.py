"""Choosing boxes."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, integers, optional


def _corners(boxes: np.ndarray, centred: bool) -> np.ndarray:
    """[4, boxes]: the least and greatest coordinates."""
    first, second, third, fourth = boxes.astype(np.float32).T
    if centred:
        half_width, half_height = third / 2, fourth / 2
        return np.stack([first - half_width, second - half_height, first + half_width, second + half_height])
    return np.stack([np.minimum(first, third), np.minimum(second, fourth), np.maximum(first, third),
                     np.maximum(second, fourth)])  # fmt: skip


def _overlaps(boxes: np.ndarray, index: int, threshold: np.float32) -> np.ndarray:
    """Which boxes share more than the threshold with one of them."""
    left, top, right, bottom = boxes
    width = np.minimum(right, right[index]) - np.maximum(left, left[index])
    height = np.minimum(bottom, bottom[index]) - np.maximum(top, top[index])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (right - left) * (bottom - top)
    union = areas + areas[index] - common
    return (common > 0) & (areas > 0) & (areas[index] > 0) & (common / union > threshold)


def _non_max_suppression(node: Node, arrays: Arrays) -> np.ndarray:
    boxes, scores = arrays[:2]
    most, iou, least = (optional(arrays, index) for index in (2, 3, 4))
    limit = 0 if most is None or not most.size else integers(most)[0]
    threshold = np.float32(0 if iou is None or not iou.size else iou.reshape(-1)[0])
    chosen: list[tuple[int, int, int]] = []
    for batch in range(boxes.shape[0]):
        corners = _corners(boxes[batch], bool(attribute(node, "center_point_box")))
        for kind in range(scores.shape[1]):
            row = scores[batch, kind]
            alive = np.ones(len(row), bool) if least is None or not least.size else row > least.reshape(-1)[0]
            order = np.argsort(-row.astype(np.float64), kind="stable")
            found = 0
            for index in order:
                if found >= limit:
                    break
                if alive[index]:
                    chosen.append((batch, kind, int(index)))
                    alive &= ~_overlaps(corners, index, threshold)
                    found += 1
    return np.array(chosen, np.int64).reshape(-1, 3)


TABLE: dict[str, Rule] = {"NonMaxSuppression": _non_max_suppression}
