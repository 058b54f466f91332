"""The quantised operators that passes make; `passes.operators` describes them.

What every kernel computes bit for bit: sums of products are whole numbers without overflow, then each operation of
float32 is rounded by itself, then the result to the nearest even whole number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.convolution import convolve

Arrays = Sequence[Any]
_WINDOW = ("kernel_shape", "strides", "dilations", "pads", "group")


def _convolution(node: Node, arrays: Arrays) -> np.ndarray:
    x, weights, multiplier, bias, residual = [*arrays, None, None][:5]
    a = node.attributes
    channels = (-1, *[1] * (x.ndim - 2))
    zeros = np.array(a["weights_zero"] or [0], np.float64).reshape(-1, *[1] * (x.ndim - 1))
    window = Node("Conv", node.name, [], [], {name: a[name] for name in _WINDOW}, "", 11)
    sums = convolve(window, x.astype(np.float64) - a["x_zero"], weights.astype(np.float64) - zeros)
    result = _scaled(sums, multiplier.reshape(channels), None if bias is None else bias.reshape(channels))
    if residual is not None:
        if a.get("inner"):
            scale, low, high = map(np.float32, a["inner"])
            result = np.rint(np.clip(result, low, high)) * scale
        result = result + (residual.astype(np.float32) - a["residual_zero"]) * np.float32(a["residual_scale"])
    return _stored(node, result)


def _product(node: Node, arrays: Arrays) -> np.ndarray:
    a, b, multiplier, bias, row_scale, row_zero = [*arrays, None, None, None][:6]
    zeros = np.float64(node.attributes["a_zero"]) if row_zero is None else row_zero.astype(np.float64)
    if np.ndim(zeros) == 1 and np.size(zeros) > 1:
        zeros = zeros[:, None]
    b_zeros = np.array(node.attributes["b_zero"] or [0], np.float64)
    sums = (a.astype(np.float64) - zeros) @ (b.astype(np.float64) - b_zeros)
    if row_scale is not None:
        multiplier = multiplier * (row_scale[:, None] if row_scale.ndim == 1 and row_scale.size > 1 else row_scale)
    return _stored(node, _scaled(sums, multiplier, bias))


def _average(node: Node, arrays: Arrays) -> np.ndarray:
    a, (x,) = node.attributes, arrays
    ones = np.ones((x.shape[1], 1, *a["kernel_shape"]))
    window = Node("Conv", node.name, [], [], {**{name: a[name] for name in _WINDOW[:-1]}, "group": len(ones)}, "", 11)
    counted = convolve(window, np.ones(x.shape), ones)
    if a["count_include_pad"]:
        counted[:] = ones[0].size
    factor = (np.float64(np.float32(a["multiplier"])) / np.maximum(counted, 1)).astype(np.float32)
    sums = convolve(window, x.astype(np.float64) - a["x_zero"], ones)
    return _stored(node, sums.astype(np.float32) * factor)


def _scaled(sums: np.ndarray, multiplier: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Whole numbers times the multiplier; a bias of integers is added before, one of floats after."""
    if bias is not None and bias.dtype == np.int32:
        sums = sums + bias
    result = sums.astype(np.float32) * multiplier.astype(np.float32)
    return result + bias if bias is not None and bias.dtype != np.int32 else result


def _stored(node: Node, numbers: np.ndarray) -> np.ndarray:
    """Rounded to even, shifted by the zero point and limited, where the output is of bytes; NaN is the lower limit."""
    a, dtype = node.attributes, node.outputs[0].element_type.to_dtype()
    if dtype == np.float32:
        return numbers
    low, high = a["low"] - a["y_zero"], a["high"] - a["y_zero"]
    numbers = np.clip(np.where(numbers == numbers, numbers, np.float32(low)), np.float32(low), np.float32(high))
    return (np.rint(numbers).astype(np.int32) + a["y_zero"]).astype(dtype)


def _quantise(node: Node, arrays: Arrays) -> np.ndarray:
    return _stored(node, arrays[0] / np.float32(node.attributes["y_scale"]))


def _dequantise(node: Node, arrays: Arrays) -> np.ndarray:
    return (arrays[0].astype(np.float32) - node.attributes["x_zero"]) * np.float32(node.attributes["x_scale"])


def _table(node: Node, arrays: Arrays) -> np.ndarray:
    return arrays[1][arrays[0].view(np.uint8)]


TABLE: dict[str, Callable[[Node, Arrays], np.ndarray]] = {
    "ByteTable": _table,
    "Dequantise": _dequantise,
    "Quantise": _quantise,
    "QuantisedAveragePool": _average,
    "QuantisedConvolution": _convolution,
    "QuantisedMatMul": _product,
}
"""By operator: the result for a node and its inputs, None where one is absent."""
