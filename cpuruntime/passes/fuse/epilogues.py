"""Residual additions and activations, done where the result they apply to is computed."""

from __future__ import annotations

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.operators.traits import traits_of
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import (
    ACTIVATED,
    DOMAIN,
    WEIGHTED,
    all_f32,
    internal,
    is_internal,
    is_onnx,
    no_activation,
)
from cpuruntime.passes.simplify.clamps import clip_bounds


def run(graph: Graph) -> bool:
    """Add of equal shapes -> residual of the Conv or FullyConnected that runs last of those that could take it; then
    activation -> Conv, FullyConnected, ScaleShift, or any other Add."""
    editor = Editor(graph)
    order: dict[Node, int] = {node: index for index, node in enumerate(graph.nodes)}
    for node in editor.nodes():
        if is_onnx(node, "Add"):
            _take_residual(editor, node, order)
        else:
            _take_activation(editor, node)
    return editor.finish()


def activation_of(node: Node) -> tuple[str, list[float]] | None:
    """The activation that `node` applies to its first input, by its name, and its arguments."""
    arguments = traits_of(node).epilogue
    if arguments is None or not all_f32(*node.inputs):
        return None
    if node.op_type == "Gelu":
        return ("GeluTanh" if node.attributes.get("approximate", "none") == "tanh" else "Gelu"), []
    if node.op_type == "Clip":
        bounds = clip_bounds(node)
        return None if bounds is None else ("Clip", bounds)
    return node.op_type, [float(node.attributes[name]) for name in arguments]


def _take_activation(editor: Editor, node: Node) -> None:
    found = activation_of(node)
    if found is None or editor.sole_user(node.inputs[0]) is not node:
        return
    maker = node.inputs[0].producer
    if is_onnx(maker, "Add") and all_f32(*maker.inputs):
        maker.domain, maker.version, maker.attributes = DOMAIN, 1, no_activation()
    if is_internal(maker, *ACTIVATED) and not maker.attributes["activation"]:
        maker.attributes["activation"], maker.attributes["activation_arguments"] = found
        editor.take_output(maker, node)


def _take_residual(editor: Editor, add: Node, order: dict[Node, int]) -> None:
    left, right = add.inputs
    if not left.is_static or left.shape != right.shape or not all_f32(left, right):
        return
    takers = [(value, other) for value, other in ((left, right), (right, left)) if _can_take(editor, value, other)]
    if not takers:
        return
    value, other = max(takers, key=lambda pair: order[pair[0].producer])
    maker = value.producer
    inputs = [*maker.inputs[:3], other]
    fused = internal(maker.op_type, maker, inputs, add.outputs, maker.attributes, (maker, add))
    order[fused] = order[add]
    editor.remove(maker)
    editor.replace(add, fused)


def _can_take(editor: Editor, value: Value, residual: Value) -> bool:
    """Whether the maker of `value`, run where the Add is now, can add `residual`."""
    maker = value.producer
    if not is_internal(maker, *WEIGHTED) or editor.sole_user(value) is None:
        return False
    return residual.constant is None and maker.inputs[3] is None and not maker.attributes["activation"]
