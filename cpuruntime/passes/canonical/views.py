"""Turns all operators that only give the same elements another shape into the internal Reshape."""

from __future__ import annotations

from collections.abc import Sequence

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx


@sweep
def run(editor: Editor, node: Node) -> None:
    """Flatten, Squeeze, Unsqueeze and Reshape to a static shape -> Reshape of one input."""
    if is_onnx(node, "Flatten", "Reshape", "Squeeze", "Unsqueeze") and node.outputs[0].is_static:
        editor.replace(node, internal("Reshape", node, node.inputs[:1], node.outputs))


def reshaped(editor: Editor, like: Node, value: Value, to: Value | Sequence[int]) -> Node:
    """A Reshape of `value` into the value `to`, or into a new value of the shape `to`."""
    output = to if isinstance(to, Value) else editor.value(f"{value.name}/reshaped", value.element_type, to)
    node = internal("Reshape", like, [value], [output])
    node.name = f"{like.name}/{output.name}"
    return node
