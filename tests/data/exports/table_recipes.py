"""Pipelines of scikit-learn over tables of numbers."""

from __future__ import annotations

import json

import numpy as np
import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = (7, 1, 300)
RANDOM = np.random.default_rng(0)


def with_cases(model: onnx.ModelProto, inputs: dict[str, tuple[str, int]]) -> onnx.ModelProto:
    cases = [{name: [kind, [rows, columns]] for name, (kind, columns) in inputs.items()} for rows in ROWS]
    entry = model.metadata_props.add()
    entry.key, entry.value = "cases", json.dumps(cases)
    return model


def random_forest() -> onnx.ModelProto:
    """Labels and probabilities, the latter as an array."""
    x = RANDOM.standard_normal((300, 6)).astype(np.float32)
    label = (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)
    forest = RandomForestClassifier(n_estimators=8, max_depth=5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), forest).fit(x, label)
    options = {id(pipeline): {"zipmap": False}}
    model = convert_sklearn(pipeline, "forest", [("x", FloatTensorType([None, 6]))], options=options)
    return with_cases(model, {"x": ("normal", 6)})


def gradient_boosting() -> onnx.ModelProto:
    """A column of categories and three of numbers."""
    kinds, numbers = RANDOM.integers(0, 4, (300, 1)), RANDOM.standard_normal((300, 3)).astype(np.float32)
    target = numbers[:, 0] * (kinds[:, 0] - 1.5) + np.sin(numbers[:, 1])
    columns = ColumnTransformer([("kind", OneHotEncoder(), [0]), ("number", StandardScaler(), [1, 2, 3])])
    boosting = GradientBoostingRegressor(n_estimators=12, max_depth=3, random_state=0)
    pipeline = make_pipeline(columns, boosting).fit(np.hstack([kinds, numbers]), target)
    types = [("kind", Int64TensorType([None, 1])), ("numbers", FloatTensorType([None, 3]))]
    return with_cases(convert_sklearn(pipeline, "boosting", types), {"kind": ("below 4", 1), "numbers": ("normal", 3)})


RECIPES = [random_forest, gradient_boosting]
