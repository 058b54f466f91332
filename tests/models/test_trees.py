"""Ensembles of decision trees, as converters of tabular models write them, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.judge import check, onnx_runtime

import cpuruntime as ov

FEATURES, ROWS = 5, 37


def trees(seed: int, count: int, places: list[int], prefix: str, low: float = 0.0) -> dict[str, Any]:
    """The attributes of `count` trees of depth 3 whose leaves have weights from `low` to 1 for all of `places`."""
    random = np.random.default_rng(seed)
    nodes: dict[str, list[Any]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(count):
        for node in range(15):
            is_leaf = node > 6
            mode = "LEAF" if is_leaf else str(random.choice(["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]))
            row = (tree, node, int(random.integers(FEATURES)), mode, float(random.normal()), 2 * node + 1, 2 * node + 2)
            for values, value in zip(nodes.values(), row if not is_leaf else (*row[:5], 0, 0)):
                values.append(value)
            for place in places if is_leaf else []:
                for values, value in zip(leaves.values(), (tree, node, place, float(random.uniform(low, 1)) / count)):
                    values.append(value)
    return {f"nodes_{k}": v for k, v in nodes.items()} | {f"{prefix}_{k}": v for k, v in leaves.items()}


def model(operator: str, outputs: int, **attributes: Any) -> onnx.ModelProto:
    names = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(operator, ["x"], names, "trees", domain="ai.onnx.ml", **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (ROWS, FEATURES))
    graph = helper.make_graph([node], "trees", [x], [helper.make_empty_tensor_value_info(name) for name in names])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)])


def compare(proto: onnx.ModelProto) -> None:
    x = np.random.default_rng(9).standard_normal((ROWS, FEATURES)).astype(np.float32)
    compiled = ov.Core().compile_model(proto, "CPU")
    assert not compiled.explain().fallbacks
    found = compiled({"x": x})
    check([found[index] for index in range(len(compiled.outputs))], onnx_runtime(proto, {"x": x}))


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regressor(aggregate: str) -> None:
    attributes = trees(0, 6, [0, 1], "target", low=-1)
    compare(model("TreeEnsembleRegressor", 1, n_targets=2, aggregate_function=aggregate, base_values=[0.5, -1.0],
                  **attributes))  # fmt: skip


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_classes(transform: str) -> None:
    attributes = trees(1, 5, [0, 1, 2], "class", low=-1)
    compare(model("TreeEnsembleClassifier", 2, classlabels_int64s=[7, -3, 5], post_transform=transform, **attributes))


@pytest.mark.parametrize(("low", "transform"), [(0.0, "NONE"), (-1.0, "NONE"), (0.0, "LOGISTIC"), (-1.0, "SOFTMAX")])
def test_two_classes_with_one_score(low: float, transform: str) -> None:
    attributes = trees(2, 5, [0], "class", low)
    compare(model("TreeEnsembleClassifier", 2, classlabels_int64s=[4, 9], post_transform=transform, **attributes))


def test_gradient_boosting_of_two_classes() -> None:
    attributes = trees(3, 5, [0], "class", -1)
    compare(model("TreeEnsembleClassifier", 2, classlabels_int64s=[0, 1], post_transform="LOGISTIC", base_values=[0.25],
                  **attributes))  # fmt: skip


@pytest.mark.parametrize("harm", [dict(nodes_featureids=99), dict(nodes_truenodeids=9), dict(nodes_falsenodeids=77)])
def test_tables_that_lead_nowhere_are_refused(harm: dict[str, int]) -> None:
    attributes = trees(4, 2, [0], "target")
    ((name, value),) = harm.items()
    attributes[name][3] = value
    with pytest.raises(ov.ModelError, match=r"node [34] of tree 0"):
        ov.Core().compile_model(model("TreeEnsembleRegressor", 1, n_targets=1, **attributes), "CPU")
