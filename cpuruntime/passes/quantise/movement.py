"""Operators that only move numbers move bytes instead."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx
from cpuruntime.passes.quantise.scales import Bytes, Written, read, written

_MOVING = (
    "Expand", "Flatten", "Gather", "MaxPool", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
)  # fmt: skip
_VERSIONS = {"MaxPool": 12}
"""The operator sets from which on operators take bytes, where older ones do not."""


@sweep
def run(editor: Editor, node: Node) -> None:
    """DequantizeLinear, an operator that moves numbers, QuantizeLinear -> the operator on bytes, and a ByteTable where
    the scales differ: in front of a Concat, behind the others."""
    if not is_onnx(node, "Concat", *_MOVING) or not all(v.is_static for v in (*node.inputs, *node.outputs) if v):
        return
    if node.op_type == "Resize" and not _takes_nearest(node):
        return
    results = [written(editor, value) for value in node.outputs]
    sources = [read(value, constants=True) for value in (node.inputs if node.op_type == "Concat" else node.inputs[:1])]
    if None in results or None in sources:
        return
    if node.op_type != "Gather" and all(source.value.constant is not None for source in sources):
        return
    for result in results:
        for one in result.nodes:
            editor.remove(one)
    before: list[Node] = []
    after: list[Node] = []
    if node.op_type == "Concat":
        inputs, outputs = [_rescaled(editor, node, each, results[0], before) for each in sources], [results[0].output]
    else:
        inputs = [sources[0].value, *node.inputs[1:]]
        outputs = [_moved(editor, node, sources[0], each, after) for each in results]
    version = max(node.version, _VERSIONS.get(node.op_type, 0))
    moved = Node(node.op_type, node.name, inputs, outputs, node.attributes, "", version, node.origins)
    editor.replace(node, *before, moved, *after)


def _takes_nearest(node: Node) -> bool:
    """Whether a Resize of images makes each number of one, and has a kernel."""
    a, x, y = node.attributes, node.require(0).static_shape, node.outputs[0].static_shape
    if a.get("mode", "nearest") != "nearest" or a.get("axes") or node.version < 11:
        return False
    crops = a.get("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return not crops and len(x) in (3, 4) and x[:2] == y[:2] and 0 not in (*x, *y)


def _agrees(source: Bytes, result: Written) -> bool:
    """Whether the bytes stay what they are."""
    limits = np.iinfo(result.output.element_type.to_dtype())
    same = (source.scale, source.zero) == (result.scale, result.zero)
    whole = (result.low, result.high) == (limits.min, limits.max)
    return same and whole and source.value.element_type is result.output.element_type


def _rescaled(editor: Editor, node: Node, source: Bytes, result: Written, nodes: list[Node]) -> Value:
    """The source in the scale of the result, by a node that is added to `nodes` unless it is a constant."""
    if _agrees(source, result):
        return source.value
    if source.value.constant is not None:
        return editor.constant(source.value.name, result.stored(source.numbers(source.value.constant)))
    value = editor.value(source.value.name, result.output.element_type, source.value.static_shape)
    nodes.append(_table(editor, node, source.value, source, result, value))
    return value


def _moved(editor: Editor, node: Node, source: Bytes, result: Written, nodes: list[Node]) -> Value:
    """What the operator makes: the result, or what a node that is added to `nodes` makes it of."""
    if _agrees(source, result):
        return result.output
    value = editor.value(result.output.name, source.value.element_type, result.output.static_shape)
    nodes.append(_table(editor, node, value, source, result, result.output))
    return value


def _table(editor: Editor, node: Node, x: Value, source: Bytes, result: Written, y: Value) -> Node:
    """The node that makes `y`, bytes of the result's scale, of `x`, bytes of the source's."""
    every = np.arange(256, dtype=np.uint8).view(x.element_type.to_dtype())
    table = editor.constant(f"{node.name}/table", result.stored(source.numbers(every)))
    return internal("ByteTable", node, [x, table], [y])
