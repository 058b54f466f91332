"""Normalisations of rows that end in bytes write bytes."""

from __future__ import annotations

from cpuruntime.graph import Node
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_internal, is_onnx


@sweep
def run(editor: Editor, node: Node) -> None:
    """Quantise behind a LayerNorm, an RmsNorm, or a Softmax along the last axis, becomes part of it."""
    if not is_internal(node, "Quantise"):
        return
    x = node.require(0)
    maker = x.producer
    if maker is None or editor.sole_user(x) is not node or not x.is_static:
        return
    is_softmax = is_onnx(maker, "Softmax") and maker.attributes.get("axis", -1) in (-1, len(x.static_shape) - 1)
    if is_softmax or is_internal(maker, "LayerNorm", "RmsNorm"):
        attributes = {**maker.attributes, **node.attributes}
        made = internal(maker.op_type, maker, maker.inputs, node.outputs, attributes, merged=[maker, node])
        editor.remove(maker)
        editor.replace(node, made)
