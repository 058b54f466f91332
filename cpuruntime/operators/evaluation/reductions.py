"""Reductions and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import (
    Arrays,
    Rule,
    attribute,
    given_axes,
    integers,
    is_float,
    normal_axis,
    wide,
    widest,
)

_Reduction = Callable[[np.ndarray, "tuple[int, ...]"], Any]


def _reduced(function: _Reduction) -> Rule:
    """A reduction of numbers as wide as they get; its result is truncated for integers."""

    def run(node: Node, arrays: Arrays) -> np.ndarray:
        x, axes = arrays[0], given_axes(node, arrays)
        if not axes and attribute(node, "noop_with_empty_axes"):
            axes, kept = [], True
        else:
            axes = [normal_axis(node, axis, x.ndim) for axis in axes] if axes else list(range(x.ndim))
            kept = bool(attribute(node, "keepdims"))
        result = np.asarray(function(widest(x), tuple(axes)))
        if not kept:
            result = np.squeeze(result, tuple(axes))
        return result.astype(x.dtype)

    return run


def _extreme(function: Any, largest: bool) -> _Reduction:
    def run(x: np.ndarray, axes: tuple[int, ...]) -> Any:
        if x.size:
            return function(x, axes, keepdims=True)
        return function(x, axes, keepdims=True, initial=_least(x.dtype) if largest else _most(x.dtype))

    return run


def _least(dtype: np.dtype[Any]) -> Any:
    return -np.inf if is_float(dtype) else False if dtype.kind == "b" else np.iinfo(dtype).min


def _most(dtype: np.dtype[Any]) -> Any:
    return np.inf if is_float(dtype) else True if dtype.kind == "b" else np.iinfo(dtype).max


def _sum(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    return np.sum(x, axes, dtype=x.dtype, keepdims=True)


def _mean(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    count = math.prod(x.shape[axis] for axis in axes)
    total = _sum(x, axes)
    if is_float(x.dtype):
        return np.divide(total, count)
    quotient = total // max(count, 1)  # rounded down; integers are truncated
    return quotient + ((quotient < 0) & (quotient * count != total))


def _log_sum_exp(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    x = x.astype(np.float64)
    largest = np.max(x, axes, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0)
    return np.log(np.sum(np.exp(x - shift), axes, keepdims=True)) + shift


def _cumulative(function: Any, neutral: int) -> Rule:
    def run(node: Node, arrays: Arrays) -> np.ndarray:
        x, axis = wide(arrays[0]), normal_axis(node, integers(arrays[1])[0], arrays[0].ndim)
        x = np.flip(x, axis) if attribute(node, "reverse") else x
        y = function(x, axis, dtype=x.dtype)
        if attribute(node, "exclusive") and x.shape[axis]:
            first = np.full_like(np.take(x, [0], axis), neutral)
            y = np.concatenate([first, np.take(y, range(x.shape[axis] - 1), axis)], axis)
        return (np.flip(y, axis) if attribute(node, "reverse") else y).astype(arrays[0].dtype)

    return run


def _determinant(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ModelError(f"{node.where}: the matrices of shape {list(x.shape)} are not square.")
    return np.asarray(np.linalg.det(widest(x))).astype(x.dtype)


def _norm(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    return np.sqrt(_sum(np.square(x.astype(np.float64)), axes))


TABLE: dict[str, Rule] = {
    "CumProd": _cumulative(np.cumprod, 1),
    "CumSum": _cumulative(np.cumsum, 0),
    "Det": _determinant,
    "ReduceL1": _reduced(lambda x, axes: _sum(np.abs(x), axes)),
    "ReduceL2": _reduced(_norm),
    "ReduceLogSum": _reduced(lambda x, axes: np.log(_sum(x, axes).astype(np.float64))),
    "ReduceLogSumExp": _reduced(_log_sum_exp),
    "ReduceMax": _reduced(_extreme(np.max, True)),
    "ReduceMean": _reduced(_mean),
    "ReduceMin": _reduced(_extreme(np.min, False)),
    "ReduceProd": _reduced(lambda x, axes: np.prod(x, axes, dtype=x.dtype, keepdims=True)),
    "ReduceSum": _reduced(_sum),
    "ReduceSumSquare": _reduced(lambda x, axes: _sum(np.square(x), axes)),
}
