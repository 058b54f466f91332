"""Moves a Reshape from before a product to behind it, where another Reshape undoes it."""

from __future__ import annotations

from cpuruntime.graph import Node
from cpuruntime.passes.canonical.views import reshaped
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_internal


@sweep
def run(editor: Editor, node: Node) -> None:
    """Reshape [.., K] -> FullyConnected -> Reshape [.., N]: the first moves behind the product, to merge with the last
    one, so that nothing stands between the product and what it can be fused with."""
    if not is_internal(node, "FullyConnected"):
        return
    view, output = node.inputs[0].producer, node.outputs[0]
    user = editor.sole_user(output)
    if not is_internal(view, "Reshape") or not is_internal(user, "Reshape") or node.inputs[3] is not None:
        return
    source, (inner, columns) = view.inputs[0], node.inputs[1].static_shape
    if len(source.static_shape) < 2 or source.static_shape[-1] != inner:
        return
    if user.outputs[0].static_shape[-1:] != (columns,):
        return
    made = editor.value(f"{output.name}/rows", output.element_type, (*source.static_shape[:-1], columns))
    product = internal("FullyConnected", node, [source, *node.inputs[1:]], [made], node.attributes)
    editor.replace(node, product, reshaped(editor, node, made, output))
