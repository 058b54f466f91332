"""Gives every Softmax, LogSoftmax and Hardmax one meaning: along one axis, as since opset 13."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node
from cpuruntime.passes.canonical.views import reshaped
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx


@sweep
def run(editor: Editor, node: Node) -> None:
    """Before opset 13 all axes from `axis` on count as one: take the one that is longer than 1, or reshape around.
    Afterwards `axis` is present and not negative where the rank is known."""
    if is_onnx(node, "Softmax", "LogSoftmax", "Hardmax") and node.inputs[0].shape is not None:
        if node.version >= 13:
            _set_axis(editor, node, node.attributes.get("axis", -1) % max(len(node.inputs[0].shape), 1))
        else:
            _modernise(editor, node)


def _set_axis(editor: Editor, node: Node, axis: int) -> None:
    if node.attributes.get("axis") != axis or node.version < 13:
        node.attributes["axis"] = axis
        node.version = 13
        editor.changed = True


def _modernise(editor: Editor, node: Node) -> None:
    value, output, shape = node.inputs[0], node.outputs[0], node.inputs[0].shape
    first = node.attributes.get("axis", 1)
    first = first + len(shape) if first < 0 else first
    long = [axis for axis in range(first, len(shape)) if shape[axis] != 1]
    if len(long) <= 1:
        _set_axis(editor, node, long[0] if long else max(len(shape) - 1, 0))
        return
    if not value.is_static:
        return
    flat = (prod(value.static_shape[:first]), prod(value.static_shape[first:]))
    before = reshaped(editor, node, value, flat)
    result = editor.value(output.name, output.element_type, flat)
    attributes = {**node.attributes, "axis": 1}
    inner = Node(node.op_type, node.name, before.outputs, [result], attributes, "", 13, node.origins)
    after = reshaped(editor, node, result, output)
    editor.replace(node, before, inner, after)
