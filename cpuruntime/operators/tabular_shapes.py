"""The shapes of results of ai.onnx.ml, which ONNX's own inference does not say or says for plain numbers only."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from cpuruntime.graph import Extent, Node
from cpuruntime.operators.evaluation.inputs import attribute

Shape = tuple[Extent | None, ...]


def set_tabular_shapes(node: Node) -> None:
    """Set the shapes of the results of a node of ai.onnx.ml, where the rank of its first input is known."""
    rule = _RULES.get(node.op_type) if node.domain == "ai.onnx.ml" else None
    x = node.input(0)
    if rule is None or x is None or not x.shape:
        return
    for value, shape in zip(node.outputs, rule(node, x.shape)):
        value.shape = shape


def _same(node: Node, shape: Shape) -> list[Shape]:
    return [shape]


def _rows(shape: Shape) -> Extent | None:
    return shape[0] if len(shape) > 1 else 1


def _columns(shape: Shape) -> Extent | None:
    inner = shape[1:] if len(shape) > 1 else shape
    return None if None in inner else prod(inner)  # type: ignore[arg-type]


def _count(node: Node, *names: str) -> int:
    """The number of elements of the first attribute that has some."""
    return next((len(found) for name in names if (found := attribute(node, name))), 0)


def _targets(name: str) -> Callable[[Node, Shape], list[Shape]]:
    return lambda node, shape: [(_rows(shape), attribute(node, name))]


def _array_features(node: Node, shape: Shape) -> list[Shape]:
    indices = node.require(1).shape
    count = None if indices is None or None in indices else prod(indices)  # type: ignore[arg-type]
    return [(*(shape[:-1] or (1,)), count)]


def _feature_vectorizer(node: Node, shape: Shape) -> list[Shape]:
    widths = attribute(node, "inputdimensions")
    if not widths:
        widths = [_columns(value.shape) if value is not None and value.shape else None for value in node.inputs]
    return [(_rows(shape), None if None in widths else sum(widths))]


def _linear_classifier(node: Node, shape: Shape) -> list[Shape]:
    columns = _columns(shape)
    scores = None if not columns else _count(node, "coefficients") // int(columns)
    return [(_rows(shape),), (_rows(shape), 2 if scores == 1 else scores)]


def _support_vector_classifier(node: Node, shape: Shape) -> list[Shape]:
    classes = _count(node, "classlabels_strings", "classlabels_ints")
    by_pairs = attribute(node, "vectors_per_class") and not attribute(node, "prob_a") and classes > 2
    return [(_rows(shape),), (_rows(shape), classes * (classes - 1) // 2 if by_pairs else classes)]


def _tree_classifier(node: Node, shape: Shape) -> list[Shape]:
    classes = _count(node, "classlabels_strings", "classlabels_int64s")
    return [(_rows(shape),), (_rows(shape), classes)]


def _one_hot_encoder(node: Node, shape: Shape) -> list[Shape]:
    return [(*shape, _count(node, "cats_strings", "cats_int64s"))]


_RULES: dict[str, Callable[[Node, Shape], list[Shape]]] = {
    **dict.fromkeys(("Binarizer", "CategoryMapper", "Imputer", "LabelEncoder", "Normalizer", "Scaler"), _same),
    "ArrayFeatureExtractor": _array_features,
    "FeatureVectorizer": _feature_vectorizer,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _targets("targets"),
    "OneHotEncoder": _one_hot_encoder,
    "SVMClassifier": _support_vector_classifier,
    "SVMRegressor": lambda node, shape: [(_rows(shape), 1)],
    "TreeEnsemble": _targets("n_targets"),
    "TreeEnsembleClassifier": _tree_classifier,
    "TreeEnsembleRegressor": _targets("n_targets"),
}
