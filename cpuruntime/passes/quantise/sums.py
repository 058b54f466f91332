"""What quantised convolutions and products share: how the sum of products of integers becomes the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import internal, is_onnx, no_activation
from cpuruntime.passes.quantise.scales import MOST, Bytes, Weights, Written, is_usable, read, written
from cpuruntime.passes.simplify.clamps import clip_bounds


@dataclass
class Sums:
    """Sums of products of bytes and constant weights, with their scale and bias; `axis` is that of output channels.

    `bias` is i32, counted in steps of the sums, or f32.
    """

    node: Node
    x: Bytes
    weights: Weights
    bias: np.ndarray | None
    axis: int
    factor: float = 1.0
    nodes: list[Node] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return int(self.weights.array.shape[self.axis])

    @property
    def scale(self) -> np.ndarray:
        """What a step of the sum of each channel stands for."""
        return np.broadcast_to(self.x.scale * self.weights.scales * self.factor, (self.channels,))

    def _fits(self) -> bool:
        """Whether no sum can leave the range of 32 bits."""
        limits = np.iinfo(self.x.value.element_type.to_dtype())
        largest = max(abs(limits.min - self.x.zero), abs(limits.max - self.x.zero))
        each = np.moveaxis(self.weights.array, self.axis, 0).reshape(self.channels, -1).astype(np.int64)
        sums = np.abs(each - self.weights.zeros[:, None]).sum(1) * largest
        if self.bias is not None and self.bias.dtype == np.int32:
            sums = sums + np.abs(self.bias.astype(np.int64))
        return int(sums.max(initial=0)) <= MOST

    def replace(
        self, editor: Editor, op_type: str, inputs: list[Value | None], attributes: dict[str, Any],
        end: Written | None = None,
    ) -> None:  # fmt: skip
        """Puts the operator, whose first two inputs are given, in the place of the node and of those behind it that it
        does as well; `end` says how the node itself writes bytes. No change where a sum may leave the range of 32 bits
        or float32 cannot hold the factors."""
        value, residual, nodes = (self.nodes or [self.node])[-1].outputs[0], None, []
        if end is None:
            end, residual, nodes = self._end(editor, value)
        scale = self.scale if end is None else self.scale / end.scale
        if not is_usable(scale) or not self._fits():
            return
        bias = self.bias
        if bias is not None and bias.dtype != np.int32 and end is not None:
            bias = (bias.astype(np.float64) / end.scale).astype(np.float32)
        name = self.node.name
        attributes = attributes | (no_activation() if end is None else end.attributes())
        if residual is not None and end is not None:
            attributes |= {"residual_scale": residual.scale / end.scale, "residual_zero": residual.zero}
        inputs = [
            *inputs,
            editor.constant(f"{name}/multiplier", scale.astype(np.float32)),
            None if bias is None else editor.constant(f"{name}/bias", bias),
            *([None if residual is None else residual.value] if op_type == "QuantisedConvolution" else []),
        ]
        merged = [self.node, *self.nodes, *nodes]
        if end is None:
            attributes |= _activation(nodes)
        outputs = [end.output] if end is not None else merged[-1].outputs
        made = internal(op_type, self.node, inputs, outputs, attributes, merged=merged)
        for each in merged[:-1]:
            editor.remove(each)
        editor.replace(merged[-1], made)

    def _end(self, editor: Editor, value: Value) -> tuple[Written | None, Bytes | None, list[Node]]:
        """How the result is written as bytes, what is added before, and the nodes that do so; for a result in float32
        the Relu or Clip behind it."""
        end = written(editor, value)
        if end is not None:
            return end, None, end.nodes
        user = editor.sole_user(value)
        if is_onnx(user, "Add") and len(self.weights.array.shape) > 2:
            other = read(user.inputs[1] if user.inputs[0] is value else user.inputs[0])
            end = written(editor, user.outputs[0])
            if other is not None and end is not None and other.value.shape == value.shape == end.output.shape:
                return end, other, [user, *end.nodes]
        if is_onnx(user, "Relu") or (is_onnx(user, "Clip") and clip_bounds(user) is not None):
            return None, None, [user]
        return None, None, []

    def add(self, editor: Editor) -> None:
        """Takes a constant row that is added to the result as its bias."""
        value = self.node.outputs[0]
        user = editor.sole_user(value)
        if self.bias is not None or not is_onnx(user, "Add") or user.outputs[0].shape != value.shape:
            return
        row = constant_row(user.inputs[1] if user.inputs[0] is value else user.inputs[0], self.channels)
        if row is not None:
            self.bias = row
            self.nodes.append(user)


def _activation(nodes: list[Node]) -> dict[str, Any]:
    if not nodes:
        return {}
    arguments = [] if nodes[0].op_type == "Relu" else [float(bound) for bound in clip_bounds(nodes[0]) or ()]
    return {"activation": nodes[0].op_type, "activation_arguments": arguments}


def constant_row(value: Value | None, channels: int) -> np.ndarray | None:
    """The f32 elements of a constant, or of constant bytes, that is a row of so many; None where it is none."""
    if value is None:
        return None
    array = value.constant
    if array is None:
        source = read(value, constants=True)
        if source is None or source.value.constant is None:
            return None
        array = source.numbers(source.value.constant)
    is_row = array.size == 1 or (array.size == channels and array.shape[-1] == channels)
    if value.element_type is not Type.f32 or not is_row:
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,)), np.float32)


def constant_bias(value: Value, scale: np.ndarray) -> np.ndarray | None:
    """A bias of results of these scales, i32 where it has them, else f32; None where it is no constant."""
    node, channels = value.producer, len(scale)
    if not is_onnx(node, "DequantizeLinear") or node.require(0).element_type is not Type.i32:
        return constant_row(value, channels)
    steps, own, zero = node.require(0).constant, node.require(1).constant, node.input(2)
    if steps is None or own is None or steps.shape != (channels,) or own.size not in (1, channels):
        return None
    if zero is not None and (zero.constant is None or zero.constant.any()):
        return None
    own = own.reshape(-1)
    if np.allclose(own, scale, rtol=1e-5, atol=0):
        return steps
    return np.asarray(steps.astype(np.float32) * own, np.float32)
