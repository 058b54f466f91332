"""Removes Relu where nothing is negative, and moves Relu from behind a Concat to the operators before it."""

from __future__ import annotations

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.operators.traits import traits_of
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import all_f32, is_internal, is_onnx, merge_origins


def run(graph: Graph) -> bool:
    """A Relu behind a Concat moves when each input of the Concat is never negative or comes from an operator that
    applies activations for nothing."""
    editor = Editor(graph)
    positive: set[Value] = set()
    for node in editor.nodes():
        if is_onnx(node, "Relu") and all_f32(*node.inputs):
            source = node.inputs[0]
            if source in positive:
                positive.update(node.outputs)
                editor.bypass(node, source)
                continue
            _move(editor, node, positive)
        rule = traits_of(node).sign
        if rule is not None and rule(node, [value in positive for value in node.inputs]):
            positive.update(node.outputs)
    return editor.finish()


def _move(editor: Editor, relu: Node, positive: set[Value]) -> None:
    concat = relu.inputs[0].producer
    if not is_onnx(concat, "Concat") or editor.sole_user(relu.inputs[0]) is not relu:
        return
    if not all(value in positive or _applies_activations(editor, value) for value in concat.inputs):
        return
    relus: list[Node] = []
    inputs = list(concat.inputs)
    for index, value in enumerate(inputs):
        if value not in positive:
            inputs[index] = editor.value(f"{value.name}/relu", value.element_type, value.shape)
            name = f"{relu.name}/{len(relus) + 1}"
            relus.append(Node("Relu", name, [value], [inputs[index]], {}, "", 14, relu.origins))
    origins = merge_origins(concat, relu)
    joined = Node("Concat", concat.name, inputs, relu.outputs, concat.attributes, "", concat.version, origins)
    editor.remove(concat)
    editor.replace(relu, *relus, joined)


def _applies_activations(editor: Editor, value: Value) -> bool:
    maker = value.producer
    if not is_internal(maker, "Conv", "FullyConnected", "ScaleShift") or editor.sole_user(value) is None:
        return False
    return not maker.attributes["activation"]
