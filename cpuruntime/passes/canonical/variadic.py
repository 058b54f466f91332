"""Splits operators of many inputs into chains of two."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.operators.shape_rules import broadcast
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx

_BINARY = {"Sum": ("Add", 14), "Mean": ("Add", 14), "Max": ("Max", 13), "Min": ("Min", 13)}


@sweep
def run(editor: Editor, node: Node) -> None:
    """Sum of n -> n - 1 times Add; Max and Min likewise; Mean -> Adds and a Div."""
    if not is_onnx(node, *_BINARY) or (node.op_type in ("Max", "Min") and len(node.inputs) == 2):
        return
    count, output = len(node.inputs), node.outputs[0]
    if count == 1:
        if not editor.bypass(node, node.inputs[0]):
            editor.replace(node, Node("Identity", node.name, node.inputs, [output], {}, "", 13, node.origins))
        return
    divides = node.op_type == "Mean"
    op_type, version = _BINARY[node.op_type]
    total, nodes = node.inputs[0], []
    for index, value in enumerate(node.inputs[1:], start=2):
        is_last = index == count and not divides
        result = output if is_last else editor.value(output.name, output.element_type, _broadcast(total, value))
        name = node.name if index == 2 else f"{node.name}/{index - 1}"
        nodes.append(Node(op_type, name, [total, value], [result], {}, "", version, node.origins))
        total = result
    if divides:
        divisor = editor.constant(f"{output.name}/count", np.array(count, output.element_type.to_dtype()))
        nodes.append(Node("Div", f"{node.name}/{count}", [total, divisor], [output], {}, "", 14, node.origins))
    editor.replace(node, *nodes)


def _broadcast(left: Value, right: Value) -> tuple[int | None, ...] | None:
    if left.is_static and right.is_static:
        return broadcast(left.static_shape, right.static_shape)
    return left.shape if left.shape == right.shape else None
