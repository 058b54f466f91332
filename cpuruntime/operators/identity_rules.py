"""When operators return an input as it is: rules that the rows of `traits` name.

A rule gives the input that the node's first output always equals, None where it may differ.
"""

from __future__ import annotations

from collections.abc import Callable

from cpuruntime.graph import Node, Value

Rule = Callable[[Node], Value | None]


def always(node: Node) -> Value | None:
    return node.inputs[0]


def only_input(node: Node) -> Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def same_shape(node: Node) -> Value | None:
    source = node.inputs[0]
    return source if source.is_static and source.shape == node.outputs[0].shape else None


def same_type(node: Node) -> Value | None:
    source, output = node.inputs[0], node.outputs[0]
    return source if source.element_type is output.element_type and source.element_type.is_static() else None


def dropout(node: Node) -> Value | None:
    training = node.input(2)
    off = training is None or (training.constant is not None and not training.constant.any())
    return node.inputs[0] if off else None


def transpose(node: Node) -> Value | None:
    source, perm = node.inputs[0], node.attributes.get("perm")
    if source.shape is None:
        return None
    order = list(range(len(source.shape)))
    return source if (order[::-1] if perm is None else list(perm)) == order else None


def pad(node: Node) -> Value | None:
    pads = node.input(1)
    return node.inputs[0] if pads is not None and pads.constant is not None and not pads.constant.any() else None


def slice_(node: Node) -> Value | None:
    steps = node.input(4)
    forward = steps is None or (steps.constant is not None and bool((steps.constant == 1).all()))
    return same_shape(node) if forward else None


def neutral(element: int, on_left: bool) -> Rule:
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
