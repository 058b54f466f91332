"""Reductions, softmax, normalisations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from evaluation.variants.elementwise import types
from evaluation.variants.variant import Draw, Variant


def _reduce(op_type: str, d: Draw) -> Variant:
    opset, shape = d.opset(op_type), d.shape(0, 4)
    late = opset >= (13 if op_type == "ReduceSum" else 18)
    dtype = d.choose(*types(op_type, opset))
    x = d.positive(shape, dtype) if "Log" in op_type and np.dtype(dtype).kind == "f" else d.array(shape, dtype, 1.0)
    if op_type == "ReduceProd":
        x = np.clip(x, -2 if np.dtype(dtype).kind in "if" else 0, 2).astype(dtype)
        shape = shape[:3]
        x = x[(Ellipsis, *[0] * (x.ndim - len(shape)))]
    if "Log" in op_type and np.dtype(dtype).kind in "iu":
        x = (np.abs(x) + 1).astype(dtype)
    axes = d.axes(len(shape)) if shape and d.chance(0.7) else None
    if axes is not None and opset < 11:
        axes = [axis % len(shape) for axis in axes]
    attributes = d.some(keepdims=d.number(0, 1))
    if not late:
        return Variant(op_type, opset, [x], {**attributes, **({"axes": axes} if axes else {})})
    attributes |= d.some(noop_with_empty_axes=d.number(0, 1))
    return Variant(op_type, opset, [x, np.array(axes, np.int64)] if axes else [x], attributes)


def _softmax(op_type: str, d: Draw) -> Variant:
    opset, shape = d.opset(op_type), d.shape(1)
    axis = d.number(0 if opset < 11 else -len(shape), len(shape) - 1)
    dtype = d.choose(np.float32, np.float32, np.float64)
    return Variant(op_type, opset, [d.array(shape, dtype)], d.some(axis=axis) if opset >= 13 else {"axis": axis})


def _image(d: Draw, least: int = 1) -> list[int]:
    return [d.number(1, 3), d.number(1, 6), *(d.number(1, 5) for _ in range(d.number(least, 3)))]


def _batch_normalization(d: Draw) -> Variant:
    opset, shape = d.opset("BatchNormalization"), _image(d, 0)
    spatial = 0 if opset < 9 and d.chance(0.2) else 1
    channels = [shape[1]] if spatial else shape[1:]
    parameters = [d.positive(channels) if positive else d.array(channels) for positive in (1, 0, 0, 1)]
    attributes = d.some(epsilon=d.choose(1e-3, 0.1), momentum=0.7) | ({} if spatial else {"spatial": 0})
    outputs = [True]
    if opset >= 14 and d.chance(0.3):
        attributes["training_mode"] = 1
        outputs = [True, True, True]
    return Variant("BatchNormalization", opset, [d.array(shape), *parameters], attributes, outputs)


def _instance_normalization(d: Draw) -> Variant:
    shape = [*_image(d), d.number(2, 4)]
    scale, bias = d.array(shape[1:2]), d.array(shape[1:2])
    return Variant("InstanceNormalization", d.opset("InstanceNormalization"), [d.array(shape), scale, bias],
                   d.some(epsilon=0.01))  # fmt: skip


def _group_normalization(d: Draw) -> Variant:
    opset, groups = d.opset("GroupNormalization"), d.number(1, 3)
    shape = _image(d)
    shape[1] = groups * d.number(1, 3)
    extent = groups if opset < 21 else shape[1]
    return Variant("GroupNormalization", opset, [d.array(shape), d.array([extent]), d.array([extent])],
                   {"num_groups": groups, **d.some(epsilon=0.01)})  # fmt: skip


def _layer_normalization(d: Draw) -> Variant:
    shape = d.shape(1, 4, empty=0)
    axis = d.axis(len(shape))
    rest = shape[axis:]
    bias = d.array(rest) if d.chance() else None
    outputs = [True] * d.number(1, 3)
    return Variant("LayerNormalization", 17, [d.array(shape), d.array(rest), bias],
                   {"axis": axis, **d.some(epsilon=0.01)}, outputs)  # fmt: skip


def _rms_normalization(d: Draw) -> Variant:
    shape = d.shape(1, 4, empty=0)
    axis = d.axis(len(shape))
    return Variant("RMSNormalization", 23, [d.array(shape), d.array(shape[axis:])], {"axis": axis})


def _lp_normalization(d: Draw) -> Variant:
    shape = d.shape(1, 4, empty=0)
    return Variant("LpNormalization", d.opset("LpNormalization"), [d.array(shape, d.choose(np.float32, np.float64))],
                   d.some(axis=d.axis(len(shape)), p=d.choose(1, 2)))  # fmt: skip


def _mean_variance(d: Draw) -> Variant:
    return Variant("MeanVarianceNormalization", d.opset("MeanVarianceNormalization"),
                   [d.array([2, d.number(1, 4), d.number(2, 4), d.number(2, 4)])], d.some(axes=[0, 2, 3]))  # fmt: skip


def _lrn(d: Draw) -> Variant:
    shape = [d.number(1, 2), d.number(1, 7), d.number(1, 4), d.number(1, 4)]
    return Variant("LRN", d.opset("LRN"), [d.array(shape)],
                   {"size": d.choose(1, 3, 5), **d.some(alpha=0.5, beta=0.6, bias=2.0)})  # fmt: skip


def _dropout(d: Draw) -> Variant:
    opset, x = d.opset("Dropout"), d.array(d.shape(1))
    outputs = [True, True] if d.chance() and opset >= 10 else [True]
    ratio = np.float32(0.3)
    if opset < 12:
        return Variant("Dropout", opset, [x], d.some(ratio=0.3), outputs)
    return Variant("Dropout", opset, [x, np.asarray(ratio), np.asarray(False)][: d.number(1, 3)], {}, outputs)


def _losses(op_type: str, d: Draw) -> Variant:
    opset, classes = d.opset(op_type), d.number(1, 4)
    rest = d.shape(0, 2, empty=0)
    batch = d.number(1, 3)
    target = d.random.integers(0, classes, [batch, *rest])
    weights = d.positive([classes]) if d.chance() else None
    attributes = d.some(reduction=d.choose("none", "sum", "mean"), ignore_index=d.number(0, classes))
    outputs = [True, True] if op_type.startswith("Softmax") and d.chance() else [True]
    return Variant(op_type, opset, [d.array([batch, classes, *rest]), target, weights], attributes, outputs)


_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    **{f"Reduce{name}": partial(_reduce, f"Reduce{name}") for name in _REDUCTIONS.split()},
    **{name: partial(_softmax, name) for name in ("Hardmax", "LogSoftmax", "Softmax")},
    **{name: partial(_losses, name) for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")},
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_normalization,
}
