"""Softmax and normalisations."""

from __future__ import annotations

import math

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, many, normal_axis, optional, wide, widest


def _softmax(node: Node, arrays: Arrays) -> np.ndarray:
    """Softmax, LogSoftmax, Hardmax. Before opset 13 the axes from `axis` on count as one."""
    given = arrays[0]
    if not given.size:
        return given
    axis = normal_axis(node, attribute(node, "axis"), max(given.ndim, 1)) if given.ndim or node.version >= 13 else 0
    x = widest(given)
    if node.version < 13:
        x, axis = x.reshape(math.prod(x.shape[:axis]), -1), 1
    x = x.reshape(x.shape or (1,))
    if node.op_type == "Hardmax":
        y = np.zeros_like(x)
        np.put_along_axis(y, np.expand_dims(x.argmax(axis), axis), 1, axis)
    else:
        shifted = x - x.max(axis, keepdims=True)
        total = np.exp(shifted).sum(axis, keepdims=True)
        y = shifted - np.log(total) if node.op_type == "LogSoftmax" else np.exp(shifted) / total
    return y.reshape(given.shape).astype(given.dtype)


def _channels(array: np.ndarray, rank: int) -> np.ndarray:
    return array.reshape(-1, *[1] * (rank - 2))


def _batch_normalization(node: Node, arrays: Arrays) -> np.ndarray | tuple[np.ndarray, ...]:
    """Before opset 14 the number of outputs says whether it trains."""
    x, *parameters = arrays
    y, rank = widest(x), x.ndim
    scale, bias, mean, variance = map(widest, parameters)
    momentum = attribute(node, "momentum")
    trains = attribute(node, "training_mode") if node.version >= 14 else many(node) > 1
    new: tuple[np.ndarray, ...] = ()
    spatial = attribute(node, "spatial") != 0
    if trains:
        axes = (0, *range(2, rank)) if spatial else (0,)
        batch_mean, batch_variance = y.mean(axes), y.var(axes)
        kept = mean * momentum + batch_mean * (1 - momentum), variance * momentum + batch_variance * (1 - momentum)
        new = tuple(array.astype(parameters[2].dtype) for array in kept)
        if node.version < 14:
            new += tuple(array.astype(parameters[2].dtype) for array in (batch_mean, batch_variance))
        mean, variance = batch_mean, batch_variance
    scale, bias, mean, variance = (_channels(a, rank) if spatial else a for a in (scale, bias, mean, variance))
    result = ((y - mean) / np.sqrt(variance + attribute(node, "epsilon")) * scale + bias).astype(x.dtype)
    return (result, *new)[: many(node)]


def _instance_normalization(node: Node, arrays: Arrays) -> np.ndarray:
    x, axes = widest(arrays[0]), tuple(range(2, arrays[0].ndim))
    scale, bias = (_channels(widest(array), x.ndim) for array in arrays[1:])
    deviation = np.sqrt(x.var(axes, keepdims=True) + attribute(node, "epsilon"))
    return ((x - x.mean(axes, keepdims=True)) / deviation * scale + bias).astype(arrays[0].dtype)


def _group_normalization(node: Node, arrays: Arrays) -> np.ndarray:
    """Before opset 21 scale and bias have an element a group."""
    x, groups = widest(arrays[0]), node.attributes["num_groups"]
    batch, channels = x.shape[:2]
    if channels % groups:
        raise ModelError(f"{node.where}: {channels} channels do not divide into {groups} groups.")
    y = x.reshape(batch, groups, math.prod(x.shape[1:]) // groups)
    y = (y - y.mean(2, keepdims=True)) / np.sqrt(y.var(2, keepdims=True) + attribute(node, "epsilon"))
    repeats = channels // groups if node.version < 21 else 1
    scale, bias = (_channels(np.repeat(widest(array), repeats), x.ndim) for array in arrays[1:])
    return (y.reshape(x.shape) * scale + bias).astype(arrays[0].dtype)


def _layer_normalization(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    x, scale, bias = wide(arrays[0]).astype(np.float64), widest(arrays[1]), optional(arrays, 2)
    axes = tuple(range(normal_axis(node, attribute(node, "axis"), x.ndim), x.ndim))
    mean = x.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(x.var(axes, keepdims=True) + attribute(node, "epsilon"))
    y = (x - mean) * inverse * scale
    y = y if bias is None else y + widest(bias)
    stash = np.float32 if arrays[0].dtype != np.float64 else np.float64
    return (y.astype(arrays[0].dtype), mean.astype(stash), inverse.astype(stash))[: many(node)]


def _rms_normalization(node: Node, arrays: Arrays) -> np.ndarray:
    x = widest(arrays[0])
    axes = tuple(range(normal_axis(node, attribute(node, "axis"), x.ndim), x.ndim))
    y = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + attribute(node, "epsilon"))
    return (y * widest(arrays[1])).astype(arrays[1].dtype)


def _lp_normalization(node: Node, arrays: Arrays) -> np.ndarray:
    x, axis = widest(arrays[0]), attribute(node, "axis")
    norm = np.abs(x).sum(axis, keepdims=True) if attribute(node, "p") == 1 else np.sqrt(
        np.square(x).sum(axis, keepdims=True))  # fmt: skip
    return np.divide(x, norm, out=np.zeros_like(x), where=norm != 0).astype(arrays[0].dtype)


def _mean_variance_normalization(node: Node, arrays: Arrays) -> np.ndarray:
    x, axes = widest(arrays[0]), tuple(attribute(node, "axes"))
    return ((x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-9)).astype(arrays[0].dtype)


def _lrn(node: Node, arrays: Arrays) -> np.ndarray:
    x, size = widest(arrays[0]), node.attributes["size"]
    around = [(0, 0), ((size - 1) // 2, size // 2)] + [(0, 0)] * (x.ndim - 2)
    squares, channels = np.pad(np.square(x), around), x.shape[1]
    sums = sum(squares[:, i : i + channels] for i in range(size))
    base = attribute(node, "bias") + attribute(node, "alpha") / size * sums
    return (x / base ** attribute(node, "beta")).astype(arrays[0].dtype)


def _dropout(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Training draws numbers as `seed` says; before opset 12 it always infers."""
    x, training = arrays[0], optional(arrays, 2) if node.version >= 12 else None
    ratio = 0.5 if optional(arrays, 1) is None else float(arrays[1])
    keep = np.ones(x.shape, bool)
    if training is not None and training and ratio:
        keep = np.random.RandomState(attribute(node, "seed")).uniform(0, 1, x.shape) >= ratio
        x = np.where(keep, wide(x) / (1 - ratio), 0).astype(x.dtype)
    return (x, keep if node.version >= 10 else keep.astype(x.dtype))[: many(node)]


TABLE: dict[str, Rule] = {
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "GroupNormalization": _group_normalization,
    "Hardmax": _softmax,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
    "Softmax": _softmax,
}
