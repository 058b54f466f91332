"""Tabular models beside what tests/cases has: an element that is none of the categories, one-dimensional rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cpuruntime as ov
from cpuruntime.errors import InvalidArgumentError


def compiled(operator: str, shape: list[Any], element_type: int, **attributes: Any) -> ov.CompiledModel:
    outputs = ["y", "scores"] if operator == "LinearClassifier" else ["y"]
    node = helper.make_node(operator, ["x"], outputs, "encoder", domain="ai.onnx.ml", **attributes)
    x = helper.make_tensor_value_info("x", element_type, shape)
    graph = helper.make_graph([node], "table", [x], [*map(helper.make_empty_tensor_value_info, outputs)])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    return ov.Core().compile_model(helper.make_model(graph, opset_imports=opsets), "CPU")


@pytest.mark.parametrize("rows", [3, "rows"])
def test_an_element_that_is_none_of_the_categories_is_an_error(rows: Any) -> None:
    encoder = compiled("OneHotEncoder", [rows, 1], TensorProto.INT64, cats_int64s=[4, 2], zeros=0)
    found = encoder([np.array([[2], [4], [2]])])[0]
    np.testing.assert_array_equal(found, np.array([[[0, 1]], [[1, 0]], [[0, 1]]], np.float32))
    with pytest.raises(InvalidArgumentError, match=r"OneHotEncoder 'encoder'.*none of the categories"):
        encoder([np.array([[2], [3], [2]])])
    assert not encoder.explain().fallbacks


def test_a_row_without_a_batch() -> None:
    scaler = compiled("LinearRegressor", [3], TensorProto.FLOAT, coefficients=[1.0, 2.0, 4.0], intercepts=[0.5])
    np.testing.assert_array_equal(scaler([np.array([1, 1, 2], np.float32)])[0], [[11.5]])
    assert not scaler.explain().fallbacks


TREE = dict(
    nodes_falsenodeids=[2, 0, 0], nodes_featureids=[0] * 3, nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
    nodes_nodeids=[0, 1, 2], nodes_treeids=[0] * 3, nodes_truenodeids=[1, 0, 0], nodes_values=[0.5, 0.0, 0.0],
    n_targets=1, target_ids=[0, 0], target_nodeids=[1, 2], target_treeids=[0, 0], target_weights=[1.0, 2.0],
)  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [("LinearClassifier", dict(coefficients=[1.0, 2.0], intercepts=[0.0, 0.0], classlabels_strings=["a", "b"])),
     ("TreeEnsembleRegressor", TREE)],
)  # fmt: skip
def test_a_table_without_rows(operator: str, attributes: dict[str, Any]) -> None:
    model = compiled(operator, ["rows", 1], TensorProto.FLOAT, **attributes)
    assert len(model([np.ones((3, 1), np.float32)])[0]) == 3
    assert model([np.ones((0, 1), np.float32)])[0].shape[0] == 0
