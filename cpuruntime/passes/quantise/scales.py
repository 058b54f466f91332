"""What QuantizeLinear and DequantizeLinear say of a value: its bytes, their scale and their zero point."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import is_onnx
from cpuruntime.passes.simplify.clamps import clip_bounds
from cpuruntime.records import record

BYTES = (Type.u8, Type.i8)
_TINY = float(np.finfo(np.float32).tiny)
MOST = np.iinfo(np.int32).max
LARGEST = 2.0**30
"""Results are smaller before they are limited to bytes, so that kernels may round them to whole numbers first."""


@record
class Bytes:
    """A value that stands for the numbers `(value - zero) * scale`."""

    value: Value
    scale: float
    zero: int

    @property
    def limits(self) -> np.iinfo:
        """Of the bytes."""
        return np.iinfo(self.value.element_type.to_dtype())

    def numbers(self, array: np.ndarray) -> np.ndarray:
        """The numbers that such bytes stand for."""
        return (array.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)


@record
class Weights:
    """Constant bytes; `scales` and `zeros` have one element, or one for each output channel."""

    array: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray


@record
class Written:
    """How a result becomes bytes: the nodes that do so, with Relu and Clip; `output` is what the last one makes."""

    nodes: list[Node]
    output: Value
    scale: float
    zero: int
    low: int
    high: int

    def attributes(self) -> dict[str, Any]:
        """Those of an operator that stores its results."""
        return {"y_zero": self.zero, "low": self.low, "high": self.high}

    def stored(self, numbers: np.ndarray) -> np.ndarray:
        """The bytes that stand for numbers; NaN is the lower limit."""
        whole = np.rint(numbers.astype(np.float32) / np.float32(self.scale)) + np.float32(self.zero)
        limited = np.clip(np.nan_to_num(whole, nan=self.low, posinf=self.high, neginf=self.low), self.low, self.high)
        return limited.astype(self.output.element_type.to_dtype())


def read(value: Value | None, constants: bool = False) -> Bytes | None:
    """The bytes that a DequantizeLinear with one scale makes `value` of; None for another value, and for constants."""
    node = None if value is None else value.producer
    if node is None or not is_onnx(node, "DequantizeLinear") or node.outputs[0].element_type is not Type.f32:
        return None
    x, found = node.require(0), one_scale(node)
    if (x.constant is not None and not constants) or x.element_type not in BYTES or not x.is_static or found is None:
        return None
    return Bytes(x, *found)


def one_scale(node: Node) -> tuple[float, int] | None:
    """The `pair` of a QuantizeLinear or DequantizeLinear."""
    return pair(node.require(1), node.input(2))


def pair(scale: Value, zero: Value | None) -> tuple[float, int] | None:
    """A scale and a zero point for all elements; None where kernels cannot rely on them: a scale that is 0, denormal,
    infinite or computed."""
    if scale.element_type is not Type.f32 or scale.constant is None or scale.constant.size != 1:
        return None
    if zero is not None and (zero.constant is None or zero.constant.size != 1):
        return None
    number = float(scale.constant.reshape(()))
    if not _TINY <= number < inf:
        return None
    return number, 0 if zero is None else int(zero.constant.reshape(()))


def is_usable(multiplier: np.ndarray) -> bool:
    """Whether float32 holds the factors: each is 0 or a number of full precision."""
    size = np.abs(multiplier.astype(np.float32))
    return bool(np.isfinite(size).all() and ((size >= _TINY) | (multiplier == 0)).all())


def weights(value: Value | None, axis: int) -> Weights | None:
    """The constant bytes that `value` is made of, with one scale for each place of `axis` or one for all."""
    node = None if value is None else value.producer
    if is_onnx(node, "Transpose") and len(value.static_shape) == 2:
        found = weights(node.require(0), 1 - axis % 2)
        return None if found is None else Weights(found.array.T, found.scales, found.zeros)
    if node is None or not is_onnx(node, "DequantizeLinear") or node.attributes.get("block_size", 0):
        return None
    x, scale, zero = node.require(0), node.require(1), node.input(2)
    if x.constant is None or x.element_type not in BYTES or scale.constant is None or scale.element_type != Type.f32:
        return None
    if zero is not None and zero.constant is None:
        return None
    zeros = np.zeros(1, np.int64) if zero is None else zero.data.reshape(-1).astype(np.int64)
    rank, per_axis = x.data.ndim, node.attributes.get("axis", 1)
    if max(scale.data.size, zeros.size) > 1 and (rank == 0 or per_axis % rank != axis % rank):
        return None
    return as_weights(np.asarray(x.data), scale.data, zeros, axis)


def as_weights(array: np.ndarray, scale: np.ndarray, zeros: np.ndarray, axis: int) -> Weights | None:
    """These bytes with their scales; None where the numbers of scales do not fit the axis."""
    count = array.shape[axis]
    if not is_usable(scale) or scale.size not in (1, count) or zeros.size not in (1, count):
        return None
    return Weights(array, scale.reshape(-1).astype(np.float64), zeros.reshape(-1).astype(np.int64))


def written(editor: Editor, value: Value) -> Written | None:
    """How the only reader of `value` turns it into bytes; None where it does not, or others read it, too."""
    nodes, bounds = [], [-inf, inf]
    user = editor.sole_user(value)
    while user is not None and is_onnx(user, "Relu", "Clip") and user.inputs[0] is value:
        limits = [0.0, inf] if user.op_type == "Relu" else clip_bounds(user)
        if limits is None:
            return None
        bounds = [min(max(bound, limits[0]), limits[1]) for bound in bounds]
        nodes.append(user)
        value = user.outputs[0]
        user = editor.sole_user(value)
    if user is None or not is_onnx(user, "QuantizeLinear") or user.inputs[0] is not value:
        return None
    output, found = user.outputs[0], one_scale(user)
    if found is None or output.element_type not in BYTES or value.element_type is not Type.f32:
        return None
    scale, zero = found
    limits = np.iinfo(output.element_type.to_dtype())
    steps = np.rint(np.array(bounds, np.float32) / np.float32(scale)) + zero
    low, high = (int(step) for step in np.clip(steps, limits.min, limits.max))
    nodes.append(user)
    after = editor.sole_user(output)
    if is_onnx(after, "Clip") and after.inputs[0] is output and (bounds := clip_bounds(after)) is not None:
        low, high = (int(min(max(step, bounds[0]), bounds[1])) for step in (low, high))
        nodes.append(after)
        output = after.outputs[0]
    return Written(nodes, output, scale, zero, low, high)
