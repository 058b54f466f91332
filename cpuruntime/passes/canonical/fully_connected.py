"""Gemm and MatMul with constant weights -> FullyConnected; other Gemms -> MatMul."""

from __future__ import annotations

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Value
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_onnx, no_activation


@sweep
def run(editor: Editor, node: Node) -> None:
    """Rewrite what is f32. Of Gemm, transA becomes a Transpose, transB and alpha go into constant weights, and a C that
    is no constant row is added by an Add."""
    if not is_onnx(node, "Gemm", "MatMul") or not all_f32(*node.inputs, *node.outputs):
        return
    constant = _has_weights(node)
    if node.op_type == "Gemm" and all(value.shape is not None for value in node.inputs[:2]):
        with Writer(editor, node) as writer:
            _gemm(writer, constant)
    elif constant:
        inputs = [*node.inputs, None, None]
        editor.replace(node, internal("FullyConnected", node, inputs, node.outputs, no_activation()))


def _has_weights(node: Node) -> bool:
    x, weights = node.inputs[:2]
    if weights.constant is None or weights.constant.ndim != 2 or x.shape is None or len(x.shape) < 2:
        return False
    inner = x.shape[0] if node.attributes.get("transA", 0) else x.shape[-1]
    rows = weights.constant.shape[1 if node.attributes.get("transB", 0) else 0]
    if inner is not None and inner != rows:
        raise ModelError(f"{node.where}: the rows of the first input have {inner} elements, the weights take {rows}.")
    return True


def _gemm(write: Writer, constant: bool) -> None:
    editor, node = write.editor, write.node
    attributes, shape = node.attributes, node.outputs[0].shape
    x, weights, addend = node.inputs[0], node.inputs[1], node.input(2)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)

    def scaled(value: Value, factor: float) -> Value:
        return value if factor == 1 else write("Mul", value, write.constant(factor, np.float32), shape=value.shape)

    if attributes.get("transA", 0):
        x = write("Transpose", x, shape=x.shape[::-1], perm=[1, 0])
    if constant:
        weights = _weights(editor, weights, alpha, bool(attributes.get("transB", 0)))
        alpha = 1.0
    elif attributes.get("transB", 0):
        weights = write("Transpose", weights, shape=weights.shape[::-1], perm=[1, 0])
    addend = None if beta == 0 else addend
    if constant:
        bias = None
        if _is_row(addend, weights.static_shape[1]):
            bias, addend = _row(editor, addend, weights.static_shape[1], beta), None
        inputs = [x, weights, bias, None]
        product = write.internal("FullyConnected", *inputs, shape=shape, attributes=no_activation())
    else:
        product = write("MatMul", x, weights, shape=shape)
    product = scaled(product, alpha)
    if addend is not None:
        write("Add", product, scaled(addend, beta), shape=shape)


def _weights(editor: Editor, weights: Value, alpha: float, turned: bool) -> Value:
    array = weights.constant.T if turned else weights.constant
    if alpha != 1:
        array = array * np.float32(alpha)
    return weights if array is weights.constant else editor.constant(f"{weights.name}/weights", array)


def _is_row(value: Value | None, columns: int) -> bool:
    """Whether adding `value` adds the same row of `columns` elements to every row."""
    if value is None or value.constant is None or value.constant.ndim > 2:
        return False
    shape = (1, 1, *value.constant.shape)[-2:]
    return shape[0] == 1 and shape[1] in (1, columns)


def _row(editor: Editor, value: Value, columns: int, beta: float) -> Value:
    if beta == 1 and value.shape == (columns,):
        return value
    row = np.broadcast_to(value.constant.reshape(-1), (columns,)) * np.float32(beta)
    return editor.constant(f"{value.name}/bias", row)
