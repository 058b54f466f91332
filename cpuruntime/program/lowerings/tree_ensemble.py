"""Ensembles of decision trees as converters of tabular models write them: TreeEnsembleClassifier and -Regressor."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.ops.tree_ensemble import (
    AGGREGATES,
    LEAF,
    MODES,
    NEGATIVE,
    NODE,
    ONE_MINUS,
    TRANSFORMS,
    WEIGHT,
    tree_ensemble,
)
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.storage import Address

DOMAIN = "ai.onnx.ml"


def _has_labels(node: Node) -> bool:
    return node.op_type == "TreeEnsembleClassifier"


def _numbers(node: Node, name: str) -> np.ndarray:
    given = node.attributes.get(name, node.attributes.get(f"{name}_as_tensor"))
    return np.zeros(0) if given is None else np.asarray(given).reshape(-1)


def _prefix(node: Node) -> str:
    return "class" if _has_labels(node) else "target"


def _check(node: Node) -> str | None:
    x, attributes = node.require(0), node.attributes
    if x.element_type != Type.f32 or len(x.static_shape) != 2:
        return f"{node.op_type} has a kernel for rows of f32, not for {x}"
    if attributes.get("post_transform", "NONE") not in TRANSFORMS:
        return f"{node.op_type} has no kernel for post_transform {attributes['post_transform']}"
    if attributes.get("aggregate_function", "SUM") not in AGGREGATES:
        return f"{node.op_type} has no kernel for aggregate_function {attributes['aggregate_function']}"
    if _has_labels(node) and "classlabels_int64s" not in attributes:
        return f"{node.op_type} has a kernel for labels of int64"
    places, columns = np.unique(_numbers(node, f"{_prefix(node)}_ids")), _columns(node)
    if _has_labels(node) and columns == 2 and (places.tolist() != [0] or len(_numbers(node, "base_values")) == 2):
        return f"{node.op_type} has kernels for two classes with one score, number 0, and for more than two"
    if _has_labels(node) and columns < 2:
        return f"{node.op_type} has a kernel for two classes and more"
    return None


def _columns(node: Node) -> int:
    if _has_labels(node):
        return len(node.attributes.get("classlabels_int64s", ()))
    return int(node.attributes.get("n_targets", 1))


@lowering("TreeEnsembleClassifier", "TreeEnsembleRegressor", domain=DOMAIN, check=_check)
def lower_tree_ensemble(emitter: Emitter, node: Node) -> None:
    """The tables of nodes and weights, and one step."""
    source, columns = emitter.plain(node.require(0)), _columns(node)
    rows, features = source.shape
    nodes, roots, weights = _tables(node, features, columns)
    base = np.zeros(columns, np.float32)
    given = _numbers(node, "base_values")
    if len(given) > columns:
        raise ModelError(f"{node.where}: {len(given)} base_values for {columns} scores.")
    base[: len(given)] = given
    *labels, scores = node.outputs if len(node.outputs) == 2 or not _has_labels(node) else (*node.outputs, None)
    fields: dict[str, Any] = {}
    if labels and labels[0].name:
        fields["target"] = emitter.new_plain(labels[0]).address
        fields["labels"] = emitter.constant(np.asarray(node.attributes["classlabels_int64s"], np.int64))
    if scores is not None and scores.name:
        fields["scores"] = emitter.new_plain(scores).address
    else:
        fields["scores"] = Address(emitter.scratch(rows * columns * 4))
    if _has_labels(node) and columns == 2:
        fields["pair"] = ONE_MINUS if (weights["weight"] >= 0).all() else NEGATIVE
    emitter.emit(
        tree_ensemble(node.attributes.get("aggregate_function", "SUM")), "plain", source=source.address,
        nodes=emitter.constant(nodes.view(np.int32)), roots=emitter.constant(roots),
        weights=emitter.constant(weights.view(np.int32)), base=emitter.constant(base), rows=rows, features=features,
        trees=len(roots), columns=columns,
        transform=TRANSFORMS.index(node.attributes.get("post_transform", "NONE")), **fields,
    )  # fmt: skip


def _tables(node: Node, features: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, the first of each tree, and weights in the order of the leaves.

    Raises ModelError unless every tree is one: kernels follow its numbers unchecked.
    """
    trees, numbers = (_numbers(node, f"nodes_{name}").astype(np.int64) for name in ("treeids", "nodeids"))
    names = ("featureids", "modes", "truenodeids", "falsenodeids", "values")
    columns_of = [_numbers(node, f"nodes_{name}") for name in names]
    if not len(trees) or any(len(column) != len(trees) for column in (numbers, *columns_of)):
        raise ModelError(f"{node.where}: its lists nodes_* have different lengths or none.")
    place = {key: index for index, key in enumerate(zip(trees.tolist(), numbers.tolist()))}
    weights, spans = _weights(node, columns)
    nodes = np.zeros(len(trees), NODE)
    missing = _numbers(node, "nodes_missing_value_tracks_true")
    nodes["missing"] = missing if len(missing) == len(trees) else 0
    roots = set(range(len(trees)))
    rows = zip(trees.tolist(), numbers.tolist(), *columns_of)
    for index, (tree, number, feature, mode, yes, no, value) in enumerate(rows):
        if mode == "LEAF":
            nodes[index]["first"], nodes[index]["second"] = spans.get((tree, number), (0, 0))
            continue
        children = [place.get((tree, int(child)), -1) for child in (yes, no)]
        # From the root of a tree whose nodes have one parent each no path leads into a cycle.
        if mode not in MODES or not 0 <= feature < features or not all(child in roots for child in set(children)):
            raise ModelError(
                f"{node.where}: node {number} of tree {tree} has mode {mode}, feature {feature} of {features} and "
                f"children {yes} and {no}; both must be nodes of the tree without another parent."
            )
        roots -= set(children)
        nodes[index] = (feature, MODES[mode], *children, value, nodes[index]["missing"])
    starts = np.array(sorted(roots), np.int32)
    if len(starts) != len(set(trees.tolist())) or set(trees[starts].tolist()) != set(trees.tolist()):
        raise ModelError(f"{node.where}: a tree has no root, or several.")
    assert LEAF == 0
    return nodes, starts, weights


def _weights(node: Node, columns: int) -> tuple[np.ndarray, dict[tuple[int, int], tuple[int, int]]]:
    """The weights of all leaves; of each leaf the first and how many."""
    prefix = _prefix(node)
    trees, numbers, places, values = (_numbers(node, f"{prefix}_{n}") for n in ("treeids", "nodeids", "ids", "weights"))
    if any(len(column) != len(trees) for column in (numbers, places, values)):
        raise ModelError(f"{node.where}: its lists {prefix}_* have different lengths.")
    if len(places) and not (places.min() >= 0 and places.max() < columns):
        raise ModelError(f"{node.where}: {prefix}_ids reach from {places.min()} to {places.max()} of {columns}.")
    order = np.lexsort((numbers, trees))
    table = np.zeros(max(len(order), 1), WEIGHT)
    table["place"][: len(order)], table["weight"][: len(order)] = places[order], values[order]
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for index, key in enumerate(zip(trees[order].tolist(), numbers[order].tolist())):
        first, count = spans.get(key, (index, 0))
        spans[key] = (first, count + 1)
    return table, spans
