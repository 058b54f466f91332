"""The operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from evaluation.variants.variant import Draw, Variant

_ML = "ai.onnx.ml"


def _ml(op_type: str, inputs: list[Any], attributes: dict[str, Any], outputs: int = 1, version: int = 1) -> Variant:
    return Variant(op_type, version, inputs, attributes, [True] * outputs, _ML)


def _rows(d: Draw, dtypes: tuple[Any, ...] = (np.float32, np.float64, np.int64, np.int32)) -> np.ndarray:
    return d.array([d.number(1, 4), d.number(1, 4)], d.choose(*dtypes))


def _post(d: Draw, scores: int) -> str:
    """ONNX Runtime does not transform one score."""
    return d.choose("NONE", "LOGISTIC", "SOFTMAX") if scores > 1 else "NONE"


def _array_features(d: Draw) -> Variant:
    x = d.array(d.shape(1, 3, empty=0), d.choose(np.float32, np.int64, np.float64))
    return _ml("ArrayFeatureExtractor", [x, d.random.integers(0, x.shape[-1], d.number(1, 4))], {})


def _binarizer(d: Draw) -> Variant:
    return _ml("Binarizer", [_rows(d, (np.float32,))], d.some(threshold=0.5))


def _category_mapper(d: Draw) -> Variant:
    attributes = {"cats_strings": ["a", "b", "c"], "cats_int64s": [7, -2, 9]}
    attributes |= d.some(default_int64=5, default_string="none")
    shape = d.shape(1, 2, empty=0)
    drawn = d.random.integers(0, 4, shape)
    if d.chance():
        return _ml("CategoryMapper", [np.array(["a", "b", "c", "other"], object)[drawn]], attributes)
    return _ml("CategoryMapper", [np.array([7, -2, 9, 1])[drawn]], attributes)


def _feature_vectorizer(d: Draw) -> Variant:
    batch, widths = d.number(1, 3), [d.number(1, 4) for _ in range(d.number(1, 3))]
    dtype = d.choose(np.float32, np.int64)
    return _ml("FeatureVectorizer", [d.array([batch, width], dtype) for width in widths], {"inputdimensions": widths})


def _imputer(d: Draw) -> Variant:
    x = np.rint(_rows(d, (np.float32, np.int64)))
    values = [float(d.number(5, 9)) for _ in range(d.choose(1, x.shape[1]))]
    if x.dtype == np.int64:
        return _ml(
            "Imputer", [x.astype(np.int64)], {"imputed_value_int64s": list(map(int, values)), "replaced_value_int64": 1}
        )
    wanted = d.choose(1.0, float("nan"))
    x = np.where(d.array(x.shape, bool), x, np.float32(wanted)).astype(np.float32)
    return _ml("Imputer", [x], {"imputed_value_floats": values, "replaced_value_float": wanted})


_KEYS = {"strings": ["a", "b", "c", "dd"], "int64s": [3, 1, 7, -2], "floats": [1.5, 2.5, -3.0, float("nan")]}
_VALUES = {"strings": ["x", "y", "z", ""], "int64s": [10, 20, 30, 40], "floats": [0.5, 1.5, -2.5, 9.0]}


def _label_encoder(d: Draw) -> Variant:
    source, target = d.choose(("strings", "int64s"), ("int64s", "strings"), ("floats", "int64s"), ("int64s", "floats"),
                              ("strings", "floats"), ("floats", "strings"))  # fmt: skip
    keys = _KEYS[source]
    dtype = {"strings": object, "int64s": np.int64, "floats": np.float32}[source]
    other = {"strings": "other", "int64s": 99, "floats": 9.5}[source]
    shape = d.shape(1, 2, empty=0)
    count = int(np.prod(shape))
    x = np.array([([*keys, other])[d.number(0, 4)] for _ in range(count)], dtype).reshape(shape)
    default = {
        "strings": ("default_string", "none"),
        "int64s": ("default_int64", 77),
        "floats": ("default_float", 0.25),
    }
    name, value = default[target]
    attributes = {f"keys_{source}": keys, f"values_{target}": _VALUES[target], **d.some(**{name: value})}
    return _ml("LabelEncoder", [x], attributes, version=d.choose(2, 4))


def _linear_regressor(d: Draw) -> Variant:
    x, targets = _rows(d, (np.float32,)), d.number(1, 3)
    attributes = {"targets": targets, "coefficients": d.array([targets * x.shape[1]]).tolist()}
    attributes |= d.some(intercepts=d.array([targets]).tolist(), post_transform=_post(d, targets))
    return _ml("LinearRegressor", [x], attributes)


def _linear_classifier(d: Draw) -> Variant:
    x, classes = _rows(d, (np.float32, np.float64, np.int64)), d.number(2, 4)
    attributes = {
        "classlabels_ints": list(range(3, 3 + classes)),
        "coefficients": d.array([classes * x.shape[1]]).tolist(),
        "intercepts": d.array([classes]).tolist(),
        "post_transform": d.choose("NONE", "SOFTMAX", "LOGISTIC"),
    }
    attributes["multi_class"] = 1
    return _ml("LinearClassifier", [x], attributes, 2)


def _normalizer(d: Draw) -> Variant:
    return _ml("Normalizer", [_rows(d)], d.some(norm=d.choose("MAX", "L1", "L2")))


def _one_hot_encoder(d: Draw) -> Variant:
    if d.chance():
        x = np.array([d.choose("a", "b", "q") for _ in range(3)], object)
        return _ml("OneHotEncoder", [x], {"cats_strings": ["a", "b", "c"]})
    x = d.random.integers(0, 5, d.shape(1, 2, empty=0)).astype(d.choose(np.int64, np.float32))
    return _ml("OneHotEncoder", [x], {"cats_int64s": [0, 1, 3, 4, 2]})


def _scaler(d: Draw) -> Variant:
    x = _rows(d)
    count = d.choose(1, x.shape[1])
    return _ml("Scaler", [x], {"offset": d.array([count]).tolist(), "scale": d.positive([count]).tolist()})


def _trees(d: Draw, features: int, weights: int) -> dict[str, list[Any]]:
    """Random trees; `weights` is the number of targets or classes."""
    nodes: dict[str, list[Any]] = {name: [] for name in (
        "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
        "missing_value_tracks_true")}  # fmt: skip
    leaves: list[tuple[int, int, int, float]] = []
    sign = d.choose(1, 1, -1)
    mode = d.choose("BRANCH_LEQ", "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
    for tree in range(d.number(1, 3)):
        depth = d.number(0, 3)
        count = 2 ** (depth + 1) - 1
        for node in range(count):
            leaf = node >= count // 2
            row = (tree, node, d.number(0, features - 1), round(float(d.array(())), 1), "LEAF" if leaf else mode,
                   0 if leaf else 2 * node + 1, 0 if leaf else 2 * node + 2, d.number(0, 1))  # fmt: skip
            for name, data in zip(nodes, row):
                nodes[name].append(data)
            if leaf:
                leaves += [(tree, node, which, sign * float(d.positive(()))) for which in range(weights)]
    found: dict[str, list[Any]] = {f"nodes_{name}": data for name, data in nodes.items()}
    found["leaves"] = leaves
    return found


def _tree_regressor(d: Draw) -> Variant:
    x, targets = _rows(d, (np.float32, np.float64)), d.number(1, 3)
    trees = _trees(d, x.shape[1], targets)
    ids, nodes, which, weights = map(list, zip(*trees.pop("leaves")))
    attributes = {
        **trees,
        "n_targets": targets,
        "target_treeids": ids,
        "target_nodeids": nodes,
        "target_ids": which,
        "target_weights": weights,
        **d.some(
            aggregate_function=d.choose("SUM", "AVERAGE", "MIN", "MAX"),
            base_values=d.array([targets]).tolist(),
            post_transform=_post(d, targets),
        ),
    }
    return _ml("TreeEnsembleRegressor", [np.rint(10 * x) / x.dtype.type(10)], attributes, version=d.choose(1, 3))


def _tree_classifier(d: Draw) -> Variant:
    x, classes = _rows(d, (np.float32, np.float64)), d.choose(1, 1, 3, 4)
    trees = _trees(d, x.shape[1], classes)
    ids, nodes, which, weights = map(list, zip(*trees.pop("leaves")))
    labels = {"classlabels_int64s": list(range(max(classes, 2)))}
    if d.chance(0.3):
        labels = {"classlabels_strings": [f"class {index}" for index in range(max(classes, 2))]}
    attributes = {
        **trees,
        **labels,
        "class_treeids": ids,
        "class_nodeids": nodes,
        "class_ids": which,
        "class_weights": weights,
        **d.some(post_transform="LOGISTIC" if classes == 1 else _post(d, classes)),
    }
    return _ml("TreeEnsembleClassifier", [np.rint(10 * x) / x.dtype.type(10)], attributes, 2, d.choose(1, 3))


def _kernel(d: Draw) -> dict[str, Any]:
    return {"kernel_type": d.choose("LINEAR", "RBF", "POLY", "SIGMOID"), "kernel_params": [0.3, 0.2, 2.0]}


def _svm_regressor(d: Draw) -> Variant:
    x, vectors = _rows(d, (np.float32,)), d.number(1, 4)
    attributes = {
        **_kernel(d),
        "n_supports": vectors,
        "support_vectors": d.array([vectors * x.shape[1]]).tolist(),
        "coefficients": d.array([vectors]).tolist(),
        "rho": [0.3],
    }
    return _ml("SVMRegressor", [x], attributes)


def _svm_classifier(d: Draw) -> Variant:
    x, classes = _rows(d, (np.float32,)), d.number(2, 3)
    counts = [d.number(1, 3) for _ in range(classes)]
    total, pairs = sum(counts), classes * (classes - 1) // 2
    attributes = {
        **_kernel(d),
        "classlabels_ints": list(range(classes)),
        "vectors_per_class": counts,
        "support_vectors": d.array([total * x.shape[1]]).tolist(),
        "coefficients": d.array([(classes - 1) * total]).tolist(),
        "rho": d.array([pairs]).tolist(),
    }
    if d.chance():
        attributes |= {"prob_a": d.array([pairs]).tolist(), "prob_b": d.array([pairs]).tolist()}
    return _ml("SVMClassifier", [x], attributes, 2)


GENERATORS: dict[str, Callable[[Draw], Variant]] = {
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
    "SVMClassifier": _svm_classifier,
    "SVMRegressor": _svm_regressor,
    "Scaler": _scaler,
    "TreeEnsembleClassifier": _tree_classifier,
    "TreeEnsembleRegressor": _tree_regressor,
}
