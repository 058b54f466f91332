"""Removes nodes that return what they are given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import is_internal


def run(graph: Graph) -> bool:
    """Identity, inference's Dropout, casts to the same type, moves that move nothing, products with 1, sums with 0, ...

    A node stays where a graph input or a constant would have to be renamed into a graph output.
    """
    editor = Editor(graph)
    for node in editor.nodes():
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        if rule is None and is_internal(node, "Reshape"):
            rule = _same_shape
        source = rule(node) if rule is not None else None
        if source is not None and _mask_is_dispensable(editor, node):
            editor.bypass(node, source)
    return editor.finish()


def _mask_is_dispensable(editor: Editor, node: Node) -> bool:
    """Whether the further outputs of `node`, of which only Dropout has any, are unread or made constant here."""
    for mask in node.outputs[1:]:
        if editor.users(mask) or editor.is_kept(mask):
            if not mask.is_static or mask.element_type.is_dynamic():
                return False
            ones = np.broadcast_to(np.ones((), mask.element_type.to_dtype()), mask.static_shape)
            node.outputs.remove(mask)
            editor.become_constant(mask, ones)
    return True


def _always(node: Node) -> Value | None:
    return node.inputs[0]


def _only_input(node: Node) -> Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _keeps_shape(node: Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    return source.is_static and source.shape == output.shape


def _same_shape(node: Node) -> Value | None:
    return node.inputs[0] if _keeps_shape(node) else None


def _same_type(node: Node) -> Value | None:
    source, output = node.inputs[0], node.outputs[0]
    return source if source.element_type is output.element_type and source.element_type.is_static() else None


def _dropout(node: Node) -> Value | None:
    training = node.input(2)
    if training is None:
        return node.inputs[0]
    off = training.constant is not None and not training.constant.any()
    return node.inputs[0] if off else None


def _transpose(node: Node) -> Value | None:
    source, perm = node.inputs[0], node.attributes.get("perm")
    if source.shape is None:
        return None
    order = list(range(len(source.shape)))
    return source if (order[::-1] if perm is None else list(perm)) == order else None


def _pad(node: Node) -> Value | None:
    pads = node.input(1)
    return node.inputs[0] if pads is not None and pads.constant is not None and not pads.constant.any() else None


def _slice(node: Node) -> Value | None:
    steps = node.input(4)
    forward = steps is None or (steps.constant is not None and bool((steps.constant == 1).all()))
    return _same_shape(node) if forward else None


def _neutral(element: int, on_left: bool) -> Callable[[Node], Value | None]:
    """A rule for operators that return one operand where the other is `element`; the left one too if `on_left`."""

    def rule(node: Node) -> Value | None:
        for index in (1, 0) if on_left else (1,):
            other, source, output = node.inputs[index], node.inputs[1 - index], node.outputs[0]
            if other.constant is None or not source.is_static or source.shape != output.shape:
                continue
            if source.element_type is output.element_type and bool((other.constant == element).all()):
                return source
        return None

    return rule


_RULES: dict[str, Callable[[Node], Value | None]] = {
    "Add": _neutral(0, on_left=True),
    "Cast": _same_type,
    "CastLike": _same_type,
    "Concat": _only_input,
    "Div": _neutral(1, on_left=False),
    "Dropout": _dropout,
    "Expand": _same_shape,
    "Identity": _always,
    "Max": _only_input,
    "Min": _only_input,
    "Mul": _neutral(1, on_left=True),
    "Pad": _pad,
    "Pow": _neutral(1, on_left=False),
    "Slice": _slice,
    "Sub": _neutral(0, on_left=False),
    "Tile": _same_shape,
    "Transpose": _transpose,
}
