"""Weights in 8 bits with a scale for each output, their biases, and the pairs whose sum 16 bits do not hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from cpuruntime.quantize.calibration import Channels
from cpuruntime.quantize.editor import Editor, attribute
from cpuruntime.quantize.form import Layer

_MOST = 127
_LARGEST_BIAS = 2**30
_LEAST_SCALE = 1e-6
"""Times the least scale of activations it is a normal float32."""


@dataclass(frozen=True)
class Weight:
    """`values` s8 in the weight's own shape, a scale for each output along `axis`, and the bias, corrected, or None."""

    values: np.ndarray
    scales: np.ndarray
    axis: int
    bias: np.ndarray | None

    def dequantised(self) -> np.ndarray:
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return self.values.astype(np.float32) * self.scales.reshape(shape)


def quantised_weight(editor: Editor, layer: Layer, scale: float, channels: Channels | None) -> Weight:
    """The layer's weight in 8 bits; `scale` is that of its activations, `channels` what was measured of them.

    The bias takes the mean of what rounding the weight adds to the results.
    """
    weight = editor.arrays[layer.node.input[1]]
    others = tuple(axis for axis in range(weight.ndim) if axis != layer.axis)
    largest = np.abs(weight).max(axis=others).astype(np.float64)
    scales = np.where(largest > 0, np.maximum(largest / _MOST, _LEAST_SCALE), 1.0)
    bias = bias_of(editor, layer)
    if bias is not None and layer.after is None:  # it is held in 32 bits
        scales = np.maximum(scales, np.abs(bias) / (scale * _LARGEST_BIAS))
    scales = scales.astype(np.float32)
    shape = [1] * weight.ndim
    shape[layer.axis] = -1
    values = np.clip(np.rint(weight / scales.reshape(shape)), -_MOST, _MOST).astype(np.int8)
    found = Weight(values, scales, layer.axis, bias)
    if channels is None or (bias is None and layer.node.op_type == "MatMul"):
        return found
    shift = _mean_shift(layer, found.dequantised() - weight, channels.mean)
    start = np.zeros(len(scales), np.float32) if bias is None else bias
    return Weight(values, scales, layer.axis, (start - shift).astype(np.float32))


def bias_of(editor: Editor, layer: Layer) -> np.ndarray | None:
    """What the layer adds to each output, in its node or in the Add behind it."""
    if layer.bias:
        return editor.arrays[layer.node.input[2]].reshape(-1)
    if layer.after is not None:
        return editor.arrays[next(name for name in layer.after.input if name in editor.arrays)]
    return None


def _mean_shift(layer: Layer, difference: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What a difference of weights changes in the mean of each output. `mean` is that of each input channel."""
    if not layer.is_convolution:
        return mean @ (difference if layer.axis else difference.T)
    sums = difference.reshape(*difference.shape[:2], -1).sum(axis=2, dtype=np.float64)
    groups = attribute(layer.node, "group", 1)
    by_group = sums.reshape(groups, -1, difference.shape[1])
    return np.einsum("gmc,gc->gm", by_group, mean.reshape(groups, -1)).reshape(-1)


def saturating_pairs(values: np.ndarray, axis: int) -> tuple[int, int]:
    """(how many pairs can saturate, of how many) where products of u8 and s8 are added in pairs of 16 bits.

    A pair is that of two neighbouring input channels at the same place of a window, as kernels without VNNI take
    them. It is safe for all data where neither its positive nor its negative weights add up to more than 128.
    """
    if values.dtype != np.int8 or values.ndim < 2:
        return 0, 0
    rows = values if values.ndim > 2 or axis == 0 else values.T
    rows = np.moveaxis(rows.reshape(*rows.shape[:2], prod(rows.shape[2:])), 1, 2).astype(np.int16)
    if rows.shape[2] % 2:
        rows = np.pad(rows, ((0, 0), (0, 0), (0, 1)))
    pairs = rows.reshape(-1, 2)
    up, down = np.maximum(pairs, 0).sum(axis=1), np.minimum(pairs, 0).sum(axis=1)
    return int(((up > 128) | (down < -128)).sum()), len(pairs)
