"""Removes nodes that return an input as it is."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.operators.traits import traits_of
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx


@sweep
def run(editor: Editor, node: Node) -> None:
    """Identity, inference's Dropout, casts to the same type, moves that move nothing, products with 1, sums with 0, ...

    A node stays where a graph input or a constant would have to be renamed into a graph output; a Dropout, which has no
    kernel, becomes an Identity.
    """
    rule = traits_of(node).identity
    source = rule(node) if rule is not None else None
    if source is not None and _mask_is_dispensable(editor, node):
        bypassed = editor.bypass(node, source)
        if not bypassed and is_onnx(node, "Dropout"):
            editor.replace(node, Node("Identity", node.name, [source], node.outputs, {}, "", 18, node.origins))


def _mask_is_dispensable(editor: Editor, node: Node) -> bool:
    """Whether the further outputs of `node`, of which only Dropout has any, are unread or made constant here."""
    for mask in node.outputs[1:]:
        if editor.users(mask) or editor.is_output(mask):
            if not mask.is_static or mask.element_type.is_dynamic():
                return False
            ones = np.broadcast_to(np.ones((), mask.element_type.to_dtype()), mask.static_shape)
            node.outputs.remove(mask)
            editor.become_constant(mask, ones)
    return True
