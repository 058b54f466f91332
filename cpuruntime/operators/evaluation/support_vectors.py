"""Support vector machines of ai.onnx.ml."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute
from cpuruntime.operators.evaluation.tabular import labels_of, post_transform, rows_of

_ROUNDS = 100
_SURE = 1e-7


def _kernel(node: Node, x: np.ndarray, vectors: np.ndarray, kind: str) -> np.ndarray:
    """[rows, vectors]"""
    gamma, offset, degree = attribute(node, "kernel_params") or (0.0, 0.0, 0.0)
    if kind == "RBF":
        return np.exp(-gamma * np.square(x[:, None] - vectors).sum(2))
    product = x @ vectors.T
    if kind == "LINEAR":
        return product
    if kind not in ("POLY", "SIGMOID"):
        raise ModelError(f"{node.where}: there is no kernel '{kind}'.")
    product = gamma * product + offset
    return product**degree if kind == "POLY" else np.tanh(product)


def _numbers(node: Node, name: str) -> np.ndarray:
    return np.array(attribute(node, name) or (), np.float64)


def _regressor(node: Node, arrays: Arrays) -> np.ndarray:
    x, weights, count = (
        rows_of(arrays[0]).astype(np.float64),
        _numbers(node, "coefficients"),
        attribute(node, "n_supports"),
    )
    if count:
        vectors = _numbers(node, "support_vectors").reshape(count, -1)
        scores = _kernel(node, x, vectors, attribute(node, "kernel_type")) @ weights
    else:
        scores = x @ weights
    scores = scores + _numbers(node, "rho")[0]
    scores = np.where(scores > 0, 1, -1) if attribute(node, "one_class") else scores
    return post_transform(node, scores[:, None])


def _classifier(node: Node, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of classes gives a score and a vote."""
    x, labels = rows_of(arrays[0]).astype(np.float64), labels_of(node, ("classlabels_strings", "classlabels_ints"))
    counts, rho = attribute(node, "vectors_per_class"), _numbers(node, "rho")
    if not counts:
        scores = x @ _numbers(node, "coefficients").reshape(len(labels), -1).T + rho[0]
        return labels[scores.argmax(1)], post_transform(node, scores)
    ends = np.cumsum(counts)
    parts = [slice(end - count, end) for end, count in zip(ends, counts)]
    vectors = _numbers(node, "support_vectors").reshape(ends[-1], -1)
    weights = _numbers(node, "coefficients").reshape(-1, ends[-1])
    kernels = _kernel(node, x, vectors, attribute(node, "kernel_type"))
    votes, scores = np.zeros((len(x), len(counts)), int), []
    for index, (i, j) in enumerate(combinations(range(len(counts)), 2)):
        score = (
            kernels[:, parts[i]] @ weights[j - 1, parts[i]] + kernels[:, parts[j]] @ weights[i, parts[j]] + rho[index]
        )
        votes[:, i] += score > 0
        votes[:, j] += score <= 0
        scores.append(score)
    chosen = labels[votes.argmax(1)]
    pairs = np.stack(scores, 1)
    if attribute(node, "prob_a"):
        return chosen, post_transform(node, _probabilities(node, pairs, len(counts)))
    return chosen, post_transform(node, np.concatenate([-pairs, pairs], 1) if len(counts) == 2 else pairs)


def _probabilities(node: Node, scores: np.ndarray, count: int) -> np.ndarray:
    """[rows, classes]: what is consistent with the probabilities of the pairs, as in libsvm."""
    pairs = 1 / (1 + np.exp(scores * _numbers(node, "prob_a") + _numbers(node, "prob_b")))
    pairs = np.clip(pairs, _SURE, 1 - _SURE)
    result = np.empty((len(scores), count))
    for row, given in enumerate(pairs):
        r = np.zeros((count, count))
        for p, (i, j) in zip(given, combinations(range(count), 2)):
            r[i, j], r[j, i] = p, 1 - p
        result[row] = _consistent(r)
    return result


def _consistent(r: np.ndarray) -> np.ndarray:
    count = len(r)
    q = -r.T * r
    np.fill_diagonal(q, np.square(r).sum(0))
    p = np.full(count, 1 / count)
    for _ in range(max(_ROUNDS, count)):
        product = q @ p
        total = p @ product
        if np.abs(product - total).max() < 0.005 / count:
            break
        for t in range(count):
            step = (total - product[t]) / q[t, t]
            p[t] += step
            total = (total + step * (step * q[t, t] + 2 * product[t])) / (1 + step) ** 2
            product = (product + step * q[t]) / (1 + step)
            p /= 1 + step
    return p


TABLE: dict[str, Rule] = {"SVMClassifier": _classifier, "SVMRegressor": _regressor}
