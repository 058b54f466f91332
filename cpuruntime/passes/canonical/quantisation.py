"""Quantised operators become float32 arithmetic; integers are held as float32 numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import is_onnx

_TYPES = (Type.u8, Type.i8, Type.u16, Type.i16, Type.i32)
_F32 = Type.f32


def run(graph: Graph) -> bool:
    """(De)QuantizeLinear, DynamicQuantizeLinear, MatMulInteger, ConvInteger, QLinearConv, QLinearMatMul -> arithmetic,
    rounding and operators of float32. Sums of products may differ from those of integers in their last bits."""
    editor = Editor(graph)
    floats: dict[Value, Value] = {}
    for node in editor.nodes():
        write = _WRITTEN.get(node.op_type) if node.domain == "" else None
        present = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
        if write is not None and all(value.is_static for value in present):
            with _Quantised(editor, node, floats) as writer:
                write(writer)
    return editor.finish()


class _Quantised(Writer):
    """Writes float32 operators in the place of one on integers; `floats` are the integers that are known as floats."""

    def __init__(self, editor: Editor, node: Node, floats: dict[Value, Value]) -> None:
        super().__init__(editor, node)
        self.floats = floats

    def binary(self, op_type: str, x: Value, y: Value) -> Value:
        """Broadcasting arithmetic."""
        return self(op_type, x, y, shape=np.broadcast_shapes(x.static_shape, y.static_shape))

    def number(self, data: Any) -> Value:
        """A float32 constant."""
        return self.constant(data, np.float32)

    def as_float(self, value: Value) -> Value:
        """The numbers of an integer tensor."""
        if value.constant is not None:
            return self.number(value.constant)
        return self.floats.get(value) or self("Cast", value, shape=value.static_shape, type_=_F32, to=1)

    def along(self, value: Value, axis: int, rank: int) -> Value:
        """A parameter for each element of an axis, or one for all, in a form that broadcasts."""
        count = int(np.prod(value.static_shape))
        shape = [1] * (rank - axis - 1)
        if value.constant is not None:
            return self.number(value.constant.reshape([count, *shape] if count > 1 else []))
        if count == 1 or rank - axis == 1:
            return value
        return self.internal("Reshape", value, shape=(count, *shape))

    def dequantised(self, x: Value, scale: Value, zero: Value | None, axis: int = 1) -> Value:
        """(x - zero) * scale."""
        rank, numbers = len(x.static_shape), self.as_float(x)
        if _is_some(zero):
            numbers = self.binary("Sub", numbers, self.along(self.as_float(zero), axis, rank))
        return self.binary("Mul", numbers, self.along(scale, axis, rank))

    def quantised(self, x: Value, scale: Value, zero: Value | None, type_: Type, output: Value, axis: int = 1) -> None:
        """round(x / scale) + zero within the limits of the type, as `output`."""
        rank = len(x.static_shape)
        numbers = self.binary("Div", x, self.along(scale, axis, rank))
        numbers = self("Round", numbers, shape=x.static_shape)
        if _is_some(zero):
            numbers = self.binary("Add", numbers, self.along(self.as_float(zero), axis, rank))
        self.limited(numbers, type_, output)

    def limited(self, numbers: Value, type_: Type, output: Value) -> None:
        """Whole numbers within the limits of the type, as `output`."""
        limits = np.iinfo(type_.to_dtype())
        numbers = self("Clip", numbers, self.number(limits.min), self.number(limits.max), shape=numbers.static_shape)
        self.give(output, self("Cast", numbers, shape=numbers.static_shape, type_=type_, to=type_.to_onnx()))
        self.floats[output] = numbers

    def give(self, output: Value, value: Value) -> None:
        """The node that makes `value` makes `output` instead."""
        maker = value.producer
        maker.outputs, output.producer = [output], maker

    def _finish(self) -> None:
        self.editor.replace(self.node, *self._nodes)


def _is_some(zero: Value | None) -> bool:
    """Whether a zero point may be another number than 0."""
    return zero is not None and (zero.constant is None or bool(zero.constant.any()))


def _quantize(write: _Quantised) -> None:
    node = write.node
    x, scale, zero = node.inputs[0], node.inputs[1], node.input(2)
    type_ = node.outputs[0].element_type
    if x.element_type is not _F32 or type_ not in _TYPES or node.attributes.get("block_size", 0):
        return
    write.quantised(x, scale, zero, type_, node.outputs[0], _axis(node, x))


def _dequantize(write: _Quantised) -> None:
    node = write.node
    x, scale, zero = node.inputs[0], node.inputs[1], node.input(2)
    if x.element_type not in _TYPES or scale.element_type is not _F32:
        return
    if node.attributes.get("block_size", 0):
        _dequantize_blocks(write, node.attributes["block_size"])
        return
    write.give(node.outputs[0], write.dequantised(x, scale, zero, _axis(node, x)))


def _dequantize_blocks(write: _Quantised, block: int) -> None:
    """Blocks along the last axis, which they divide."""
    node = write.node
    x, scale, zero = node.inputs[0], node.inputs[1], node.input(2)
    *outer, inner = x.static_shape
    if _axis(node, x) != len(outer) or inner % block or scale.static_shape != (*outer, inner // block):
        return

    def of_blocks(value: Value, last: int) -> Value:
        return write.internal("Reshape", value, shape=(*outer, inner // block, last))

    numbers = of_blocks(write.as_float(x), block)
    if _is_some(zero):
        numbers = write.binary("Sub", numbers, of_blocks(write.as_float(zero), 1))
    result = write.binary("Mul", numbers, of_blocks(scale, 1))
    write.give(node.outputs[0], write.internal("Reshape", result, shape=x.static_shape))


def _axis(node: Node, x: Value) -> int:
    return int(node.attributes.get("axis", 1) % max(len(x.static_shape), 1))


def _dynamic(write: _Quantised) -> None:
    """Limits and zero from the data; 255 steps from the smallest number, or 0, to the largest, or 0."""
    node, x = write.node, write.node.inputs[0]
    zero, steps = write.number(0), write.number(255)
    top = write.binary("Max", write("ReduceMax", x, shape=(), keepdims=0), zero)
    bottom = write.binary("Min", write("ReduceMin", x, shape=(), keepdims=0), zero)
    scale = node.outputs[1]
    write.give(scale, write.binary("Div", write.binary("Sub", top, bottom), steps))
    start = write("Round", write.binary("Div", write.binary("Sub", zero, bottom), scale), shape=())
    write.limited(start, Type.u8, node.outputs[2])
    write.quantised(x, scale, node.outputs[2], Type.u8, node.outputs[0])


def _matmul_integer(write: _Quantised) -> None:
    """Only where float32 is cast from the result, as in dynamically quantised models."""
    node, output = write.node, write.node.outputs[0]
    if not _is_for_floats(write, output):
        return
    x, y = (write.as_float(value) for value in node.inputs[:2])
    for index, lead in ((2, 2), (3, 1)):
        zero = node.input(index)
        if _is_some(zero):
            value = write.as_float(zero)
            rows = lead == 2 and len(value.static_shape) == 1 and value.static_shape[0] > 1
            value = write.internal("Reshape", value, shape=(*value.static_shape, 1)) if rows else value
            x, y = (write.binary("Sub", x, value), y) if lead == 2 else (x, write.binary("Sub", y, value))
    product = write("MatMul", x, y, shape=output.static_shape)
    write.floats[output] = product
    write.give(output, write("Cast", product, shape=output.static_shape, type_=Type.i32, to=6))


def _convolution_integer(write: _Quantised) -> None:
    """Only where float32 is cast from the result, and one zero point is that of all weights or filters."""
    node, output = write.node, write.node.outputs[0]
    x, w, x_zero, w_zero = node.inputs[0], node.inputs[1], node.input(2), node.input(3)
    if not _is_for_floats(write, output) or w.constant is None or (w_zero is not None and w_zero.constant is None):
        return
    shifts = np.zeros(1) if w_zero is None else w_zero.constant.astype(np.float32)
    weights = w.constant.astype(np.float32) - shifts.reshape([-1, *[1] * (w.constant.ndim - 1)])
    numbers = write.as_float(x)
    if _is_some(x_zero):
        numbers = write.binary("Sub", numbers, write.as_float(x_zero))
    result = write("Conv", numbers, write.number(weights), shape=output.static_shape, **node.attributes)
    write.floats[output] = result
    write.give(output, write("Cast", result, shape=output.static_shape, type_=Type.i32, to=6))


def _is_for_floats(write: _Quantised, output: Value) -> bool:
    """Whether nothing but casts to float32 reads a result."""
    casts = (is_onnx(user, "Cast") and user.attributes["to"] == 1 for user in write.editor.users(output))
    return not write.editor.is_output(output) and all(casts)


def _cast(write: _Quantised) -> None:
    node = write.node
    known = write.floats.get(node.inputs[0])
    if known is not None and node.attributes["to"] == 1:
        write.editor.bypass(node, known)


def _linear_matmul(write: _Quantised) -> None:
    node = write.node
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    x = write.dequantised(a, a_scale, a_zero, max(len(a.static_shape) - 2, 0))
    y = write.dequantised(b, b_scale, b_zero, len(b.static_shape) - 1)
    product = write("MatMul", x, y, shape=node.outputs[0].static_shape)
    write.quantised(product, y_scale, y_zero, node.outputs[0].element_type, node.outputs[0])


def _linear_convolution(write: _Quantised) -> None:
    node = write.node
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.inputs[:8]
    bias = node.input(8)
    if any(value is not None and value.constant is None for value in (w, w_scale, w_zero, x_scale, bias)):
        return

    def filters(value: Value) -> np.ndarray:
        return value.constant.astype(np.float32).reshape([-1, *[1] * (w.constant.ndim - 1)])

    weights = (w.constant.astype(np.float32) - filters(w_zero)) * filters(w_scale)
    inputs = [write.dequantised(x, x_scale, x_zero), write.number(weights)]
    if bias is not None:
        inputs.append(write.number(bias.constant * (x_scale.constant.reshape(()) * w_scale.constant.reshape(-1))))
    result = write("Conv", *inputs, shape=node.outputs[0].static_shape, **node.attributes)
    write.quantised(result, y_scale, y_zero, node.outputs[0].element_type, node.outputs[0])


_WRITTEN: dict[str, Callable[[_Quantised], None]] = {
    "Cast": _cast,
    "ConvInteger": _convolution_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _linear_convolution,
    "QLinearMatMul": _linear_matmul,
    "QuantizeLinear": _quantize,
}
