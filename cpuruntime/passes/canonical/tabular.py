"""Operators of ai.onnx.ml that are compositions of ONNX's are written out: scaling, encoding, linear models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, prod
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Extent, Node, Type, Value
from cpuruntime.operators.evaluation.inputs import attribute
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor, sweep

DOMAIN = "ai.onnx.ml"
SMALL = 1e-7  # scores of at most this size count as zero in SOFTMAX_ZERO
NUMBERS = (Type.f32, Type.f64, Type.i32, Type.i64)


@sweep
def run(editor: Editor, node: Node) -> None:
    """ArrayFeatureExtractor, Binarizer, FeatureVectorizer, Imputer, LinearClassifier, LinearRegressor, Normalizer and
    Scaler of numbers; what OneHotEncoder and ensembles of trees take in other types becomes int64 and f32."""
    write = _WRITTEN.get(node.op_type) if node.domain == DOMAIN else None
    if write is None or not all(value is not None and _is_number(value) for value in node.inputs):
        return
    tables = node.inputs[:1] if node.op_type == "ArrayFeatureExtractor" else node.inputs  # its index may be a number
    if all(value.is_static for value in node.outputs if value.name) and all(value.shape for value in tables):
        write(editor, node)


def _is_number(value: Value) -> bool:
    return value.is_static and value.element_type in NUMBERS


def _as(write: Writer, value: Value, kind: Type) -> Value:
    if value.element_type is kind:
        return value
    return write("Cast", value, shape=value.static_shape, type_=kind, to=kind.to_onnx())


def _fraction(kind: Type) -> Type:
    """The type of fractions in which numbers of a type are computed with."""
    return Type.f32 if kind is Type.f32 else Type.f64


def _numbers(node: Node, name: str, default: Sequence[float] = ()) -> np.ndarray:
    return np.array(attribute(node, name) or default, np.float64)


def _of_columns(write: Writer, name: str, numbers: Any, kind: Type) -> Value:
    """A constant of one number, or of one for each column of the first input; ModelError for another count."""
    node, numbers = write.node, np.array([] if numbers is None else numbers, kind.to_dtype()).reshape(-1)
    columns = node.require(0).static_shape[-1]
    if len(numbers) not in (1, columns):
        raise ModelError(f"{node.where}: attribute '{name}' has {len(numbers)} numbers for {columns} columns.")
    return write.constant(numbers, kind.to_dtype())


def _rows(write: Writer, value: Value) -> Value:
    """The input as a matrix of f32."""
    value, shape = _as(write, value, Type.f32), value.static_shape
    if len(shape) == 2:
        return value
    rows: tuple[Extent, Extent] = (1, shape[0]) if len(shape) == 1 else (shape[0], prod(shape[1:]))
    return write.internal("Reshape", value, shape=rows)


def _written(rule: Callable[[Writer, Value], object]) -> Callable[[Editor, Node], None]:
    """For an operator with one result."""

    def run(editor: Editor, node: Node) -> None:
        with Writer(editor, node) as write:
            rule(write, node.require(0))

    return run


def _array_features(write: Writer, x: Value) -> None:
    node = write.node
    shape, result = x.static_shape, node.outputs[0].static_shape
    row = write.internal("Reshape", x, shape=(1, *shape)) if len(shape) == 1 else x
    indices = write.internal("Reshape", node.require(1), shape=result[-1:])
    write("Gather", row, indices, shape=result, axis=len(result) - 1)


def _binarizer(write: Writer, x: Value) -> None:
    shape, kind = x.static_shape, x.element_type
    compared = _as(write, x, _fraction(kind))
    threshold = write.constant(attribute(write.node, "threshold"), compared.element_type.to_dtype())
    above = write("Greater", compared, threshold, shape=shape, type_=Type.boolean)
    write("Cast", above, shape=shape, type_=kind, to=kind.to_onnx())


def _feature_vectorizer(write: Writer, x: Value) -> None:
    """Inputs side by side, each cut or filled with zeros to its width."""
    node = write.node
    parts = [_rows(write, value) for value in node.inputs if value is not None]
    rows, widths = node.outputs[0].static_shape[0], attribute(node, "inputdimensions") or ()
    if len(widths) > len(parts) or any(width < 0 for width in widths):
        raise ModelError(f"{node.where}: inputdimensions {widths} are not widths of {len(parts)} inputs.")
    for index, width in enumerate(widths):
        part = parts[index]
        columns = part.static_shape[1]
        if columns != width:
            pads = write.constant([0, 0, 0, width - columns])
            parts[index] = write("Pad", part, pads, shape=(rows, width), mode="constant")
    write("Concat", *parts, shape=node.outputs[0].static_shape, axis=1)


def _imputer(write: Writer, x: Value) -> None:
    node, shape, dtype = write.node, x.static_shape, x.element_type.to_dtype()
    kind = "float" if x.element_type.is_real() else "int64"
    wanted = attribute(node, f"replaced_value_{kind}")
    name = f"imputed_value_{kind}s"
    values = _of_columns(write, name, attribute(node, name), x.element_type)
    if isnan(wanted):
        missing = write("IsNaN", x, shape=shape, type_=Type.boolean)
    else:
        missing = write("Equal", x, write.constant(wanted, dtype), shape=shape, type_=Type.boolean)
    write("Where", missing, values, x, shape=shape, type_=x.element_type)


def _normalizer(write: Writer, x: Value) -> None:
    """Rows of zeros stay."""
    shape = x.static_shape
    x = _as(write, x, Type.f32)
    reduce = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[attribute(write.node, "norm")]
    small = (*shape[:-1], 1)
    norm = write(reduce, x, write.constant([len(shape) - 1]), shape=small, keepdims=1)
    zero = write("Equal", norm, write.constant(0, np.float32), shape=small, type_=Type.boolean)
    norm = write("Where", zero, write.constant(1, np.float32), norm, shape=small, type_=Type.f32)
    write("Div", x, norm, shape=shape)


def _scaler(write: Writer, x: Value) -> None:
    node, shape = write.node, x.static_shape
    kind = _fraction(x.element_type)
    offset = _of_columns(write, "offset", _numbers(node, "offset", [0]), kind)
    scale = _of_columns(write, "scale", _numbers(node, "scale", [1]), kind)
    x = write("Mul", write("Sub", _as(write, x, kind), offset, shape=shape), scale, shape=shape)
    _as(write, x, Type.f32)


def _scores(write: Writer, x: Value, count: int) -> Value:
    rows = _rows(write, x)
    result = (rows.static_shape[0], count)
    weights = _numbers(write.node, "coefficients").reshape(count, -1).T
    scores = write("MatMul", rows, write.constant(weights, np.float32), shape=result)
    intercepts = _numbers(write.node, "intercepts")
    return write("Add", scores, write.constant(intercepts, np.float32), shape=result) if len(intercepts) else scores


def _transformed(write: Writer, scores: Value) -> Value:
    """The scores as `post_transform` says."""
    how, shape = attribute(write.node, "post_transform"), scores.static_shape
    if how == "LOGISTIC":
        return write("Sigmoid", scores, shape=shape)
    if how == "SOFTMAX":
        return write("Softmax", scores, shape=shape, axis=1)
    if how == "SOFTMAX_ZERO":
        return _softmax_zero(write, scores)
    return scores


def _softmax_zero(write: Writer, scores: Value) -> Value:
    """Zeros stay, and do not count."""
    shape, column, axis = scores.static_shape, (scores.static_shape[0], 1), write.constant([1])
    largest = write("ReduceMax", scores, axis, shape=column, keepdims=1)
    powers = write("Exp", write("Sub", scores, largest, shape=shape), shape=shape)
    size = write("Abs", scores, shape=shape)
    counts = write("Greater", size, write.constant(SMALL, np.float32), shape=shape, type_=Type.boolean)
    powers = write("Where", counts, powers, write.constant(0, np.float32), shape=shape, type_=Type.f32)
    total = write("ReduceSum", powers, axis, shape=column, keepdims=1)
    tiny = write.constant(np.finfo(np.float32).tiny, np.float32)
    return write("Div", powers, write("Max", total, tiny, shape=column), shape=shape)


def _count(node: Node) -> int:
    """The number of scores; 0 where coefficients do not fit, or no formula transforms the scores."""
    shape, numbers = node.require(0).static_shape, len(_numbers(node, "coefficients"))
    columns = int(prod(shape[1:]) if len(shape) > 1 else shape[0])
    is_formula = attribute(node, "post_transform") in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
    fits = is_formula and columns > 0 and numbers % columns == 0
    count, intercepts = numbers // columns if fits else 0, len(_numbers(node, "intercepts"))
    if count and intercepts not in (0, count):
        raise ModelError(f"{node.where}: {intercepts} intercepts for {count} scores.")
    return count


def _linear_regressor(editor: Editor, node: Node) -> None:
    count = _count(node)
    if count and count == attribute(node, "targets"):
        with Writer(editor, node) as write:
            _transformed(write, _scores(write, node.require(0), count))


def _linear_classifier(editor: Editor, node: Node) -> None:
    labels = np.array(attribute(node, "classlabels_ints") or (), np.int64)
    count = _count(node)
    if not count or attribute(node, "classlabels_strings") or (count > 1 and len(labels) < count):
        return
    with Writer(editor, node) as write:
        scores = _scores(write, node.require(0), count)
        rows = scores.static_shape[0]
        if count > 1:
            chosen = write("ArgMax", scores, shape=(rows,), type_=Type.i64, axis=1, keepdims=0)
        else:
            zero = write.constant(0, np.float32)
            above = write("Greater", scores, zero, shape=(rows, 1), type_=Type.boolean)
            above = write.internal("Reshape", above, shape=(rows,))
            chosen = write("Cast", above, shape=(rows,), type_=Type.i64, to=Type.i64.to_onnx())
        given = _transformed(write, scores)
        if count == 1:
            other = write("Sub", write.constant(1, np.float32), given, shape=(rows, 1))
            given = write("Concat", other, given, shape=(rows, 2), axis=1)
        labelled = len(labels) > 1
        label = write("Gather", write.constant(labels), chosen, shape=(rows,), axis=0) if labelled else chosen
        write.results = label, given


def _cast_input(kinds: tuple[Type, ...], wanted: Type) -> Callable[[Editor, Node], None]:
    """The first input, if of one of `kinds`, in the type that the kernel takes."""

    def run(editor: Editor, node: Node) -> None:
        x = node.require(0)
        if x.element_type in kinds:
            value = editor.value(f"{x.name}/{wanted.get_type_name()}", wanted, x.shape)
            to: dict[str, Any] = {"to": wanted.to_onnx()}
            cast = Node("Cast", f"{node.name}/Cast", [x], [value], to, "", 18, node.origins)
            again = Node(
                node.op_type, node.name, [value], node.outputs, node.attributes, DOMAIN, node.version, node.origins
            )
            editor.replace(node, cast, again)

    return run


_TREES = _cast_input((Type.i32, Type.i64), Type.f32)
_WRITTEN: dict[str, Callable[[Editor, Node], None]] = {
    "ArrayFeatureExtractor": _written(_array_features),
    "Binarizer": _written(_binarizer),
    "FeatureVectorizer": _written(_feature_vectorizer),
    "Imputer": _written(_imputer),
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _written(_normalizer),
    "OneHotEncoder": _cast_input((Type.f32, Type.f64, Type.i32), Type.i64),
    "Scaler": _written(_scaler),
    "TreeEnsembleClassifier": _TREES,
    "TreeEnsembleRegressor": _TREES,
}
