"""Gemm and MatMul with constant weights -> FullyConnected."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Graph, Node, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import all_f32, internal, is_onnx, no_activation


def run(graph: Graph) -> bool:
    """Rewrite what is f32; transA becomes a Transpose, transB and alpha go into the weights, and a C that is no bias
    of one row is added by an Add."""
    editor = Editor(graph)
    for node in editor.nodes():
        if is_onnx(node, "Gemm", "MatMul") and all_f32(*node.inputs, *node.outputs) and _has_weights(node):
            (_gemm if node.op_type == "Gemm" else _matmul)(editor, node)
    return editor.finish()


def _has_weights(node: Node) -> bool:
    x, weights = node.inputs[:2]
    if weights.constant is None or weights.constant.ndim != 2 or x.shape is None or len(x.shape) < 2:
        return False
    inner = x.shape[0] if node.attributes.get("transA", 0) else x.shape[-1]
    rows = weights.constant.shape[1 if node.attributes.get("transB", 0) else 0]
    if inner is not None and inner != rows:
        raise ModelError(f"{node.where}: the rows of the first input have {inner} elements, the weights take {rows}.")
    return True


def _matmul(editor: Editor, node: Node) -> None:
    inputs = [*node.inputs, None, None]
    editor.replace(node, internal("FullyConnected", node, inputs, node.outputs, no_activation()))


def _gemm(editor: Editor, node: Node) -> None:
    attributes, nodes = node.attributes, []
    x, weights, addend = node.inputs[0], node.inputs[1], node.input(2)
    if attributes.get("transA", 0):
        turned = editor.value(f"{x.name}/transposed", x.element_type, x.shape[::-1])
        nodes.append(_helper("Transpose", node, [x], turned, perm=[1, 0]))
        x = turned
    weights = _weights(editor, weights, attributes.get("alpha", 1.0), bool(attributes.get("transB", 0)))
    columns = weights.static_shape[1]
    beta = attributes.get("beta", 1.0)
    if addend is not None and beta == 0:
        addend = None
    bias, addend = (_row(editor, addend, columns, beta), None) if _is_row(addend, columns) else (None, addend)
    output = product = node.outputs[0]
    if addend is not None:
        product = editor.value(output.name, output.element_type, output.shape)
    nodes.append(internal("FullyConnected", node, [x, weights, bias, None], [product], no_activation()))
    if addend is not None:
        if beta != 1:
            scaled = editor.value(f"{addend.name}/scaled", addend.element_type, addend.shape)
            factor = editor.constant(f"{node.name}/beta", np.array(beta, np.float32))
            nodes.append(_helper("Mul", node, [addend, factor], scaled))
            addend = scaled
        nodes.append(_helper("Add", node, [product, addend], output))
    editor.replace(node, *nodes)


def _helper(op_type: str, node: Node, inputs: list[Value | None], output: Value, **attributes: Any) -> Node:
    version = 13 if op_type == "Transpose" else 14
    return Node(op_type, f"{node.name}/{op_type.lower()}", inputs, [output], attributes, "", version, node.origins)


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
