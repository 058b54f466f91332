"""Gemm and MatMul with constant weights -> FullyConnected; other Gemms -> MatMul."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Graph, Node, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import all_f32, internal, is_onnx, no_activation


def run(graph: Graph) -> bool:
    """Rewrite what is f32. Of Gemm, transA becomes a Transpose, transB and alpha go into constant weights, and a C that
    is no constant row is added by an Add."""
    editor = Editor(graph)
    for node in editor.nodes():
        if not is_onnx(node, "Gemm", "MatMul") or not all_f32(*node.inputs, *node.outputs):
            continue
        constant = _has_weights(node)
        if node.op_type == "Gemm" and all(value.shape is not None for value in node.inputs[:2]):
            _gemm(editor, node, constant)
        elif constant:
            inputs = [*node.inputs, None, None]
            editor.replace(node, internal("FullyConnected", node, inputs, node.outputs, no_activation()))
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


class _Parts:
    """The nodes that replace a Gemm."""

    def __init__(self, editor: Editor, gemm: Node) -> None:
        self._editor = editor
        self._gemm = gemm
        self.nodes: list[Node] = []

    def transposed(self, value: Value) -> Value:
        """The matrix with rows and columns exchanged."""
        turned = self._editor.value(f"{value.name}/transposed", value.element_type, value.shape[::-1])
        self._append("Transpose", 13, [value], turned, perm=[1, 0])
        return turned

    def scaled(self, value: Value, factor: float, output: Value | None = None) -> Value:
        """`value * factor`, as `output` where that is given."""
        constant = self._editor.constant(f"{self._gemm.name}/factor", np.array(factor, np.float32))
        result = output or self._editor.value(f"{value.name}/scaled", value.element_type, value.shape)
        self._append("Mul", 14, [value, constant], result)
        return result

    def added(self, value: Value, addend: Value, output: Value) -> None:
        """`output = value + addend`."""
        self._append("Add", 14, [value, addend], output)

    def _append(self, op_type: str, version: int, inputs: list[Value], output: Value, **attributes: Any) -> None:
        name = f"{self._gemm.name}/{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(op_type, name, inputs, [output], attributes, "", version, self._gemm.origins))


def _gemm(editor: Editor, node: Node, constant: bool) -> None:
    attributes, output, parts = node.attributes, node.outputs[0], _Parts(editor, node)
    x, weights, addend = node.inputs[0], node.inputs[1], node.input(2)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if attributes.get("transA", 0):
        x = parts.transposed(x)
    if constant:
        weights = _weights(editor, weights, alpha, bool(attributes.get("transB", 0)))
        alpha = 1.0
    elif attributes.get("transB", 0):
        weights = parts.transposed(weights)
    addend = None if beta == 0 else addend
    bias = None
    if constant and _is_row(addend, weights.static_shape[1]):
        bias, addend = _row(editor, addend, weights.static_shape[1], beta), None
    product = output
    if addend is not None or alpha != 1:
        product = editor.value(output.name, output.element_type, output.shape)
    if constant:
        parts.nodes.append(internal("FullyConnected", node, [x, weights, bias, None], [product], no_activation()))
    else:
        parts.nodes.append(Node("MatMul", node.name, [x, weights], [product], {}, "", 13, node.origins))
    if alpha != 1:
        product = parts.scaled(product, alpha, output if addend is None else None)
    if addend is not None:
        parts.added(product, parts.scaled(addend, beta) if beta != 1 else addend, output)
    editor.replace(node, *parts.nodes)


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
