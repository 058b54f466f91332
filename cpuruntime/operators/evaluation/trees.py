"""Ensembles of trees of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute
from cpuruntime.operators.evaluation.tabular import labels_of, post_transform, rows_of
from cpuruntime.records import record

_MODES: dict[str, Callable[[Any, Any], Any]] = {
    "BRANCH_LEQ": np.less_equal, "BRANCH_LT": np.less, "BRANCH_GTE": np.greater_equal, "BRANCH_GT": np.greater,
    "BRANCH_EQ": np.equal, "BRANCH_NEQ": np.not_equal,
}  # fmt: skip


@record
class _Trees:
    """The nodes of all trees by position; `roots` are the positions of their first nodes."""

    features: np.ndarray
    values: np.ndarray
    modes: np.ndarray
    true: np.ndarray
    false: np.ndarray
    nan_is_true: np.ndarray
    roots: list[int]
    positions: dict[tuple[int, int], int]

    def leaves(self, x: np.ndarray) -> np.ndarray:
        """[rows, trees]: the leaf where each row ends in each tree."""
        rows = np.arange(len(x))[:, None]
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        for _ in range(len(self.modes) + 1):
            inner = self.modes[at] != "LEAF"
            if not inner.any():
                return at
            given, values = x[rows, np.where(inner, self.features[at], 0)], self.values[at]
            goes = np.isnan(given) & self.nan_is_true[at]
            for name, compare in _MODES.items():
                goes |= (self.modes[at] == name) & compare(given, values)
            at = np.where(inner, np.where(goes, self.true[at], self.false[at]), at)
        raise ModelError("a tree has a cycle.")


def _data(node: Node, name: str) -> list[float]:
    tensor = attribute(node, f"{name}_as_tensor")
    return attribute(node, name) or [] if tensor is None else tensor.ravel().tolist()


def _trees(node: Node, dtype: np.dtype) -> _Trees:
    trees, ids = attribute(node, "nodes_treeids"), attribute(node, "nodes_nodeids")
    positions = {key: index for index, key in reversed(list(enumerate(zip(trees, ids))))}
    modes = np.array(attribute(node, "nodes_modes"), object)
    roots: dict[int, int] = {}
    for index, tree in enumerate(trees):
        roots.setdefault(tree, index)

    def follow(name: str) -> np.ndarray:
        targets = zip(trees, attribute(node, name), modes)
        return np.array([0 if mode == "LEAF" else positions[tree, target] for tree, target, mode in targets])

    tracks = attribute(node, "nodes_missing_value_tracks_true") or [0] * len(trees)
    return _Trees(
        np.array(attribute(node, "nodes_featureids")), np.array(_data(node, "nodes_values"), np.float32).astype(dtype)
        if attribute(node, "nodes_values_as_tensor") is None else np.array(_data(node, "nodes_values"), dtype),
        modes, follow("nodes_truenodeids"), follow("nodes_falsenodeids"), np.array(tracks, bool),
        list(roots.values()), positions,
    )  # fmt: skip


def _leaf_weights(node: Node, trees: _Trees, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """[nodes, count]: the weights of the leaves, and which there are."""
    weights, there = np.zeros((len(trees.modes), count)), np.zeros((len(trees.modes), count), bool)
    rows = zip(
        *(attribute(node, f"{kind}_{name}") for name in ("treeids", "nodeids", "ids")), _data(node, f"{kind}_weights")
    )
    for tree, leaf, which, weight in rows:
        position = trees.positions[tree, leaf]
        weights[position, which] += weight
        there[position, which] = True
    return weights, there


def _regressor(node: Node, arrays: Arrays) -> np.ndarray:
    x = rows_of(arrays[0])
    trees, targets = _trees(node, x.dtype), attribute(node, "n_targets")
    weights, there = _leaf_weights(node, trees, "target", targets)
    leaves = trees.leaves(x)
    found, known, how = weights[leaves], there[leaves], attribute(node, "aggregate_function")
    if how in ("MIN", "MAX"):
        neutral = np.inf if how == "MIN" else -np.inf
        scores = np.where(known, found, neutral)
        scores = scores.min(1) if how == "MIN" else scores.max(1)
        scores = np.where(known.any(1), scores, 0)
    else:
        scores = found.sum(1) / (len(trees.roots) if how == "AVERAGE" else 1)
    base = _data(node, "base_values")
    return post_transform(node, scores + np.array(base) if base else scores)


def _classifier(node: Node, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """With two classes of which the leaves weigh one only, the score of the other follows from it."""
    x, labels = rows_of(arrays[0]), labels_of(node, ("classlabels_strings", "classlabels_int64s"))
    trees, ids = _trees(node, x.dtype), attribute(node, "class_ids")
    weights, there = _leaf_weights(node, trees, "class", len(labels))
    leaves = trees.leaves(x)
    scores, base = weights[leaves].sum(1), _data(node, "base_values")
    if len(labels) == 2 and len(set(ids)) == 1:
        score = scores[:, ids[0]] + (base[-1] if base else 0)
        return _binary(node, labels, score, min(_data(node, "class_weights")) >= 0)
    scores = scores + np.array(base) if base else scores
    known = there[leaves].any(1)
    chosen = np.where(known.any(1), np.where(known, scores, -np.inf).argmax(1), 0)
    return labels[chosen], post_transform(node, scores)


def _binary(node: Node, labels: np.ndarray, score: np.ndarray, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    how = attribute(node, "post_transform")
    chosen = labels[(score > (0.5 if positive else 0)).astype(int)]
    if how == "LOGISTIC":
        pair = 1 / (1 + np.exp(np.stack([score, -score], 1)))
    elif positive:
        pair = np.stack([1 - score, score], 1)
    else:
        pair = np.stack([-score, score], 1)
    return chosen, pair.astype(np.float32)


TABLE: dict[str, Rule] = {"TreeEnsembleClassifier": _classifier, "TreeEnsembleRegressor": _regressor}
