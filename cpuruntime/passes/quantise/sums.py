"""What quantised convolutions and products share: how the sum of products of integers becomes the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import internal, is_onnx, no_activation
from cpuruntime.passes.quantise.scales import LARGEST, MOST, Bytes, Weights, Written, is_usable, read, written
from cpuruntime.passes.simplify.clamps import clip_bounds

BYTE = 255
"""The largest distance of a byte from its zero point."""


@dataclass(frozen=True)
class End:
    """How a result is stored: the nodes that do so, as bytes where there is `written`, after a residual is added.

    `inner` is how a result is made bytes, and `read` what these stand for, before the residual is added.
    """

    nodes: list[Node] = field(default_factory=list)
    written: Written | None = None
    residual: Bytes | None = None
    inner: Written | None = None
    read: Bytes | None = None

    @property
    def step(self) -> float:
        """What a step of the first bytes stands for; 1 where there are none."""
        first = self.inner or self.written
        return 1.0 if first is None else first.scale

    def attributes(self) -> dict[str, Any]:
        """Those of the operator."""
        if self.written is None:
            return no_activation() | _activation(self.nodes)
        found = self.written.attributes()
        if self.residual is not None:
            found |= {"residual_scale": self.residual.scale / self.written.scale, "residual_zero": self.residual.zero}
        if self.inner is not None and self.read is not None:
            low, high = (float(limit - self.inner.zero) for limit in (self.inner.low, self.inner.high))
            found["inner"] = [self.read.scale / self.written.scale, low, high]
        return found

    def largest(self) -> float:
        """What is added at most, in steps of the last bytes."""
        a = self.attributes()
        inner = max(map(abs, a["inner"][1:])) * a["inner"][0] if "inner" in a else 0.0
        return inner + BYTE * a.get("residual_scale", 0.0)


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

    def _largest(self) -> np.ndarray:
        """The largest size of each channel's sum."""
        limits = np.iinfo(self.x.value.element_type.to_dtype())
        largest = max(abs(limits.min - self.x.zero), abs(limits.max - self.x.zero))
        each = np.moveaxis(self.weights.array, self.axis, 0).reshape(self.channels, -1).astype(np.int64)
        sums = np.abs(each - self.weights.zeros[:, None]).sum(1) * largest
        if self.bias is not None and self.bias.dtype == np.int32:
            sums = sums + np.abs(self.bias.astype(np.int64))
        return np.asarray(sums)

    def _fits(self, end: End) -> bool:
        """Whether no sum, nor what it is before it is limited to bytes, can leave the range of 32 bits."""
        sums = self._largest()
        if sums.max(initial=0) > MOST:
            return False
        if end.written is None:
            return True
        more = 0 if self.bias is None or self.bias.dtype == np.int32 else np.abs(self.bias.astype(np.float64))
        return bool(max(((sums * self.scale + more) / end.step).max(initial=0), end.largest()) < LARGEST)

    def replace(
        self, editor: Editor, op_type: str, inputs: list[Value | None], attributes: dict[str, Any],
        end: Written | None = None,
    ) -> None:  # fmt: skip
        """Puts the operator, whose first two inputs are given, in the place of the node and of those behind it that it
        does as well; `end` says how the node itself writes bytes. No change where a sum may leave the range of 32 bits
        or float32 cannot hold the factors."""
        value = (self.nodes or [self.node])[-1].outputs[0]
        found = self._end(editor, value) if end is None else self._added(editor, end)
        scale = self.scale / found.step
        if not is_usable(scale) or not self._fits(found):
            return
        bias, residual = self.bias, found.residual
        if bias is not None and bias.dtype != np.int32:
            bias = (bias.astype(np.float64) / found.step).astype(np.float32)
        name = self.node.name
        attributes = attributes | found.attributes()
        inputs = [
            *inputs,
            editor.constant(f"{name}/multiplier", scale.astype(np.float32)),
            None if bias is None else editor.constant(f"{name}/bias", bias),
            *([None if residual is None else residual.value] if op_type == "QuantisedConvolution" else []),
        ]
        merged = [self.node, *self.nodes, *found.nodes]
        outputs = [found.written.output] if found.written is not None else merged[-1].outputs
        made = internal(op_type, self.node, inputs, outputs, attributes, merged=merged)
        for each in merged[:-1]:
            editor.remove(each)
        editor.replace(merged[-1], made)

    def _end(self, editor: Editor, value: Value) -> End:
        """How the result is written as bytes and what is added before; for one in float32 the Relu or Clip behind."""
        end = written(editor, value)
        if end is not None:
            return self._added(editor, end)
        user = editor.sole_user(value)
        if is_onnx(user, "Relu") or (is_onnx(user, "Clip") and clip_bounds(user) is not None):
            return End([user])
        return self._sum(editor, value) or End()

    def _added(self, editor: Editor, end: Written) -> End:
        """A result that becomes bytes, and the Add of other bytes behind it."""
        reader = editor.sole_user(end.output)
        own = None if reader is None else read(reader.outputs[0])
        found = None if own is None or own.zero != end.zero else self._sum(editor, reader.outputs[0])
        if found is None or own is None:
            return End(end.nodes, end)
        return replace(found, nodes=[*end.nodes, reader, *found.nodes], inner=end, read=own)

    def _sum(self, editor: Editor, value: Value) -> End | None:
        """What an Add of `value` and of other bytes writes; only a convolution's result is added to."""
        user = editor.sole_user(value)
        if not is_onnx(user, "Add") or len(self.weights.array.shape) < 3 or user.inputs[0] is user.inputs[1]:
            return None
        other = read(user.inputs[1] if user.inputs[0] is value else user.inputs[0])
        end = written(editor, user.outputs[0])
        if other is None or end is None or not other.value.shape == value.shape == end.output.shape:
            return None
        return End([user, *end.nodes], end, other)

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
