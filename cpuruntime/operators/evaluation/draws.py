"""Operators that draw numbers: with a seed always the same, else other ones each time."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, widest


def _generator(node: Node) -> np.random.Generator:
    seed = attribute(node, "seed")
    return np.random.default_rng(None if seed is None else np.float32(seed).view(np.uint32))


def _dtype(node: Node, default: np.dtype) -> np.dtype:
    named = attribute(node, "dtype")
    return default if named is None else Type.from_onnx(named).to_dtype()


def _draw(node: Node, arrays: Arrays) -> np.ndarray:
    """RandomNormal and RandomUniform, and those like an input."""
    shape = arrays[0].shape if arrays else tuple(attribute(node, "shape"))
    dtype = _dtype(node, arrays[0].dtype if arrays else np.dtype(np.float32))
    random = _generator(node)
    if "Normal" in node.op_type:
        return random.normal(attribute(node, "mean"), attribute(node, "scale"), shape).astype(dtype)
    return random.uniform(attribute(node, "low"), attribute(node, "high"), shape).astype(dtype)


def _bernoulli(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    return (_generator(node).uniform(size=x.shape) < widest(x)).astype(_dtype(node, x.dtype))


def _multinomial(node: Node, arrays: Arrays) -> np.ndarray:
    """The input holds logarithms of weights, one row for each draw."""
    x = widest(arrays[0])
    weights = np.exp(x - x.max(1, keepdims=True)).cumsum(1)
    drawn = _generator(node).uniform(size=(len(x), attribute(node, "sample_size"))) * weights[:, -1:]
    return (drawn[:, :, None] >= weights[:, None, :]).sum(2).astype(_dtype(node, np.dtype(np.int32)))


TABLE: dict[str, Rule] = {
    "Bernoulli": _bernoulli,
    "Multinomial": _multinomial,
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _draw),
}
