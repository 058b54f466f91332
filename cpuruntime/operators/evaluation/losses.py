"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, many, optional, widest


def _loss(node: Node, scores: np.ndarray, target: np.ndarray, weights: Any, dtype: np.dtype) -> np.ndarray:
    """The negative score of each target class, weighted and reduced; `scores` are [batch, classes, ...]."""
    ignored = attribute(node, "ignore_index")
    alive = np.ones(target.shape, bool) if ignored is None else target != ignored
    classes = np.where(alive, target, 0)
    if classes.size and not 0 <= classes.min() <= classes.max() < scores.shape[1]:
        raise ModelError(f"{node.where}: the classes must be between 0 and {scores.shape[1] - 1}.")
    chosen = -np.take_along_axis(scores, classes[:, None], 1)[:, 0]
    weight = alive * (1.0 if weights is None else widest(weights)[classes])
    loss = np.where(alive, chosen, 0) * weight
    reduction = attribute(node, "reduction")
    if reduction == "mean":
        loss = loss.sum() / weight.sum()
    elif reduction == "sum":
        loss = loss.sum()
    return np.asarray(loss).astype(dtype)


def _negative_log_likelihood(node: Node, arrays: Arrays) -> np.ndarray:
    return _loss(node, widest(arrays[0]), arrays[1], optional(arrays, 2), arrays[0].dtype)


def _softmax_cross_entropy(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    x = widest(arrays[0])
    shifted = x - x.max(1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = _loss(node, scores, arrays[1], optional(arrays, 2), arrays[0].dtype)
    return (loss, scores.astype(arrays[0].dtype))[: many(node)]


TABLE: dict[str, Rule] = {
    "NegativeLogLikelihoodLoss": _negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": _softmax_cross_entropy,
}
