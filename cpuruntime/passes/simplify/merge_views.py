"""Merges chains of Reshape and of Transpose; a Transpose that keeps the order of elements -> Reshape."""

from __future__ import annotations

from cpuruntime.graph import Node
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_internal, is_onnx, merge_origins


@sweep
def run(editor: Editor, node: Node) -> None:
    """The last node of a chain reads its start; the nodes between are removed unless others read them."""
    if is_onnx(node, "Transpose"):
        _transpose(editor, node)
    elif is_internal(node, "Reshape"):
        _reshape(editor, node)


def _reshape(editor: Editor, node: Node) -> None:
    inner = node.inputs[0].producer
    if is_internal(inner, "Reshape"):
        node.origins = merge_origins(inner, node)
        editor.set_input(node, 0, inner.inputs[0])


def _transpose(editor: Editor, node: Node) -> None:
    source, output = node.inputs[0], node.outputs[0]
    if source.shape is None:
        return
    perm, inner = _perm(node), source.producer
    if is_onnx(inner, "Transpose"):
        first = _perm(inner)
        perm = [first[axis] for axis in perm]
        node.attributes["perm"] = perm
        node.origins = merge_origins(inner, node)
        editor.set_input(node, 0, inner.inputs[0])
        source = inner.inputs[0]
    if output.is_static and source.is_static:
        moved = [axis for axis in perm if source.static_shape[axis] != 1]
        if moved == sorted(moved):
            view = internal("Reshape", node, [source], [output])
            editor.replace(node, view)
            _reshape(editor, view)


def _perm(node: Node) -> list[int]:
    perm = node.attributes.get("perm")
    return list(range(len(node.inputs[0].shape)))[::-1] if perm is None else list(perm)
