"""The simple operators of ai.onnx.ml: scaling, encoding, linear models."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from statistics import NormalDist
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _softmax_zero(x: np.ndarray) -> np.ndarray:
    """Zeros stay, and do not count."""
    e = np.where(np.abs(x) > 1e-7, np.exp(x - x.max(1, keepdims=True)), 0)
    return e / np.maximum(e.sum(1, keepdims=True), np.finfo(e.dtype).tiny)


def _probit(x: np.ndarray) -> np.ndarray:
    inverse = NormalDist().inv_cdf
    return np.array([inverse(p) if 0 < p < 1 else np.nan for p in x.ravel().tolist()], x.dtype).reshape(x.shape)


_POST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NONE": lambda x: x, "LOGISTIC": _logistic, "PROBIT": _probit, "SOFTMAX": _softmax, "SOFTMAX_ZERO": _softmax_zero,
}  # fmt: skip


def post_transform(node: Node, scores: np.ndarray) -> np.ndarray:
    """Scores of [rows, targets] as the node transforms them, in float32."""
    return _POST[attribute(node, "post_transform")](scores).astype(np.float32)


def rows_of(x: np.ndarray) -> np.ndarray:
    """The input as a matrix."""
    return x.reshape(1, -1) if x.ndim == 1 else x.reshape(x.shape[0], prod(x.shape[1:]))


def labels_of(node: Node, names: tuple[str, str]) -> np.ndarray:
    """The classes, strings or integers."""
    texts, numbers = (attribute(node, name) for name in names)
    return np.array(texts, object) if texts else np.array(numbers or (), np.int64)


def _array_features(node: Node, arrays: Arrays) -> np.ndarray:
    x, indices = arrays
    return np.take(x.reshape(1, -1) if x.ndim == 1 else x, indices.reshape(-1), -1)


def _binarizer(node: Node, arrays: Arrays) -> np.ndarray:
    return (arrays[0] > attribute(node, "threshold")).astype(arrays[0].dtype)


def _category_mapper(node: Node, arrays: Arrays) -> np.ndarray:
    """Strings to integers, or back."""
    texts, numbers = attribute(node, "cats_strings") or [], attribute(node, "cats_int64s") or []
    if len(texts) != len(numbers):
        raise ModelError(f"{node.where}: there are {len(texts)} strings and {len(numbers)} integers.")
    forth = arrays[0].dtype == object
    table = dict(zip(texts, numbers) if forth else zip(numbers, texts))
    default = attribute(node, "default_int64" if forth else "default_string")
    found = [table.get(item, default) for item in arrays[0].ravel().tolist()]
    return np.array(found, np.int64 if forth else object).reshape(arrays[0].shape)


def _feature_vectorizer(node: Node, arrays: Arrays) -> np.ndarray:
    """Inputs side by side, each cut or filled with zeros to its width."""
    widths = attribute(node, "inputdimensions") or [rows_of(x).shape[1] for x in arrays]
    parts = [rows_of(x)[:, :width].astype(np.float32) for x, width in zip(arrays, widths)]
    return np.concatenate([np.pad(x, [(0, 0), (0, width - x.shape[1])]) for x, width in zip(parts, widths)], 1)


def _imputer(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    kind = "floats" if x.dtype.kind == "f" else "int64s"
    values = np.array(attribute(node, f"imputed_value_{kind}")).astype(x.dtype)
    wanted = attribute(node, f"replaced_value_{kind.rstrip('s')}")
    return np.where(np.isnan(x) if np.isnan(wanted) else x == np.array(wanted, x.dtype), values, x).astype(x.dtype)


def pairs_of(node: Node) -> tuple[list[Any], list[Any], Any, Any]:
    """Keys, values, what stands for other keys, and the type of the values."""
    keys, values = (
        next((found for kind in _KINDS if (found := attribute(node, f"{name}_{kind}s"))), None)
        for name in ("keys", "values")
    )
    tables = [attribute(node, f"{name}_tensor") for name in ("keys", "values")]
    if any(given is None and table is None for given, table in zip((keys, values), tables)):
        raise ModelError(f"{node.where}: it has no keys or no values.")
    keys = tables[0].ravel().tolist() if keys is None else keys
    if values is not None:
        kind = next(kind for kind in _KINDS if attribute(node, f"values_{kind}s"))
        default, dtype = attribute(node, f"default_{kind}"), _KINDS[kind]
    else:
        other, dtype = attribute(node, "default_tensor"), tables[1].dtype
        default = {"O": "_Unused", "f": -0.0}.get(dtype.kind, -1) if other is None else other.ravel()[0]
        values = tables[1].ravel().tolist()
    if len(keys) != len(values):
        raise ModelError(f"{node.where}: {len(keys)} keys for {len(values)} values.")
    return keys, values, default, dtype


_KINDS: dict[str, Any] = {"string": object, "int64": np.int64, "float": np.float32}


def _label_encoder(node: Node, arrays: Arrays) -> np.ndarray:
    """Before version 2 strings and their positions; from version 4 on NaN is a key like others."""
    x = arrays[0]
    if node.version < 2:
        texts = attribute(node, "classes_strings")
        if x.dtype == object:
            keys, values, default, dtype = texts, list(range(len(texts))), attribute(node, "default_int64"), np.int64
        else:
            keys, values, default, dtype = list(range(len(texts))), texts, attribute(node, "default_string"), object
    else:
        keys, values, default, dtype = pairs_of(node)
    if x.dtype.kind == "f":
        keys = np.array(keys, x.dtype).tolist()
    if node.version < 4:
        keys = [None if key != key else key for key in keys]
    table = {_key(key): value for key, value in reversed(list(zip(keys, values)))}
    found = [table.get(_key(item), default) for item in x.ravel().tolist()]
    return np.array(found, dtype).reshape(x.shape)


def _key(item: Any) -> Any:
    return "nan" if isinstance(item, float) and item != item else (item,)


def _scores(node: Node, x: np.ndarray, count: int) -> np.ndarray:
    weights = np.array(attribute(node, "coefficients"), np.float64).reshape(count, -1)
    scores = rows_of(x).astype(np.float64) @ weights.T
    intercepts = attribute(node, "intercepts")
    return scores + np.array(intercepts) if intercepts else scores


def _linear_regressor(node: Node, arrays: Arrays) -> np.ndarray:
    return post_transform(node, _scores(node, arrays[0], attribute(node, "targets")))


def _linear_classifier(node: Node, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    x, labels = arrays[0], labels_of(node, ("classlabels_strings", "classlabels_ints"))
    count = len(attribute(node, "coefficients")) // rows_of(x).shape[1]
    scores = _scores(node, x, count)
    if count > 1:
        return labels[scores.argmax(1)], post_transform(node, scores)
    chosen = (scores[:, 0] > 0).astype(int)
    given = post_transform(node, scores)
    return labels[chosen] if len(labels) > 1 else chosen, np.concatenate([1 - given, given], 1)


def _normalizer(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0].astype(np.float64)
    how = attribute(node, "norm")
    if how == "MAX":
        norm = x.max(-1, keepdims=True)
    else:
        norm = np.abs(x).sum(-1, keepdims=True) if how == "L1" else np.sqrt(np.square(x).sum(-1, keepdims=True))
    return np.divide(x, norm, out=x.copy(), where=norm != 0).astype(np.float32)


def _one_hot_encoder(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    kinds = labels_of(node, ("cats_strings", "cats_int64s"))
    found = (x if x.dtype == object else x.astype(np.int64))[..., None] == kinds
    if not attribute(node, "zeros") and not found.any(-1).all():
        raise ModelError(f"{node.where}: an element is none of the categories.")
    return found.astype(np.float32)


def _scaler(node: Node, arrays: Arrays) -> np.ndarray:
    offset, scale = (np.array(attribute(node, name) or [default]) for name, default in (("offset", 0), ("scale", 1)))
    return ((arrays[0].astype(np.float64) - offset) * scale).astype(np.float32)


TABLE: dict[str, Rule] = {
    "ArrayFeatureExtractor": _array_features,
    "Binarizer": _binarizer,
    "CategoryMapper": _category_mapper,
    "FeatureVectorizer": _feature_vectorizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot_encoder,
    "Scaler": _scaler,
}
