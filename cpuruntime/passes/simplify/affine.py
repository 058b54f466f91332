"""Operators that multiply each channel by a constant and add one: `x * scale + shift`."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.operators import all_f32, is_onnx
from cpuruntime.records import record

OPERATORS = ("Add", "BatchNormalization", "Div", "Mul", "Neg", "Sub")


@record
class Affine:
    """`x * scale + shift` in float64; each is one number or has an element for each channel."""

    scale: np.ndarray
    shift: np.ndarray

    def then(self, later: Affine) -> Affine:
        """This one, then the other, as one."""
        return Affine(self.scale * later.scale, self.shift * later.scale + later.shift)

    @property
    def is_scalar(self) -> bool:
        """Whether all channels are treated alike by construction."""
        return self.scale.ndim == 0 and self.shift.ndim == 0


def data_of(node: Node) -> Value | None:
    """The input that `node` transforms; None when it is no f32 operator that this module knows."""
    if not is_onnx(node, *OPERATORS) or not all_f32(*node.inputs, node.outputs[0]):
        return None
    if node.op_type in ("BatchNormalization", "Neg"):
        return node.inputs[0]
    left, right = node.inputs
    if right.constant is not None:
        return left
    return right if left.constant is not None and node.op_type != "Div" else None


def affine(node: Node, axis: int) -> Affine | None:
    """What `node`, whose `data_of` is not None, does to each channel along `axis`; None when it is not affine."""
    data = data_of(node)
    if data is None or data.shape is None:
        return None
    rank = len(data.shape)
    if not -rank <= axis < rank or data.shape[axis] is None:
        return None
    axis %= rank
    if node.op_type == "Neg":
        return Affine(np.float64(-1), np.float64(0))
    if node.op_type == "BatchNormalization":
        return _batch_normalization(node) if axis == 1 else None
    constant = _for_channels(node.inputs[0] if data is node.inputs[1] else node.inputs[1], data, axis)
    return None if constant is None else _arithmetic(node, data, constant)


def _for_channels(constant: Value, data: Value, axis: int) -> np.ndarray | None:
    """The constant operand as one number or one for each channel; None when it varies along other axes."""
    array, rank = constant.constant, len(data.shape)
    if array is None or array.ndim > rank:
        return None
    if array.size == 1:
        return array.reshape(()).astype(np.float64)
    extents = [1] * (rank - array.ndim) + list(array.shape)
    if extents[axis] != data.shape[axis] or array.size != extents[axis]:
        return None
    return array.reshape(-1).astype(np.float64)


def _arithmetic(node: Node, data: Value, constant: np.ndarray) -> Affine | None:
    one, zero = np.float64(1), np.float64(0)
    if node.op_type == "Div":
        return Affine(1 / constant, zero) if constant.all() else None
    if node.op_type == "Mul":
        return Affine(constant, zero)
    if node.op_type == "Add":
        return Affine(one, constant)
    return Affine(one, -constant) if data is node.inputs[0] else Affine(-one, constant)


def _batch_normalization(node: Node) -> Affine | None:
    attributes, parameters = node.attributes, node.inputs[1:]
    if attributes.get("training_mode", 0) or not attributes.get("spatial", 1):
        return None
    if any(output.name for output in node.outputs[1:]):
        return None
    channels = node.inputs[0].shape[1]
    if any(value is None or value.constant is None or value.shape != (channels,) for value in parameters):
        return None
    gamma, beta, mean, variance = (value.constant.astype(np.float64) for value in parameters)
    scale = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    return Affine(scale, beta - mean * scale)
