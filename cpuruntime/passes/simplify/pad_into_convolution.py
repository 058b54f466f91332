"""Moves padding with zeros from a Pad into the convolutions that read it."""

from __future__ import annotations

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import is_internal, is_onnx, merge_origins, scalar


def run(graph: Graph) -> bool:
    """Add the pads to those of every Conv that reads the Pad, if all that read it are Convs."""
    editor = Editor(graph)
    for node in editor.nodes():
        pads = _spatial_pads(node) if is_onnx(node, "Pad") else None
        if pads is not None:
            _fold(editor, node, pads)
    return editor.finish()


def _fold(editor: Editor, pad: Node, pads: list[int]) -> None:
    padded = pad.outputs[0]
    users = editor.users(padded)
    if editor.is_output(padded) or not all(_convolves(user, padded) for user in users):
        return
    for user in users:
        user.attributes["pads"] = [old + more for old, more in zip(user.attributes["pads"], pads)]
        user.origins = merge_origins(pad, user)
        editor.set_input(user, 0, pad.inputs[0])


def _convolves(node: Node, value: Value) -> bool:
    return is_internal(node, "Conv") and node.inputs[0] is value and node.inputs.count(value) == 1


def _spatial_pads(node: Node) -> list[int] | None:
    """Begins, then ends, of the spatial axes; None where `node` does anything but pad those with zeros."""
    x, pads, value, axes = node.inputs[0], node.input(1), node.input(2), node.input(3)
    if node.attributes.get("mode", "constant") != "constant" or x.shape is None or len(x.shape) < 3:
        return None
    if pads is None or pads.constant is None or (value is not None and scalar(value) != 0):
        return None
    if axes is not None and axes.constant is None:
        return None
    rank = len(x.shape)
    chosen = range(rank) if axes is None else [axis % rank for axis in axes.constant.tolist()]
    begins, ends = [0] * rank, [0] * rank
    amounts = pads.constant.tolist()
    for axis, begin, end in zip(chosen, amounts[: len(chosen)], amounts[len(chosen) :]):
        begins[axis], ends[axis] = begin, end
    if min(begins + ends) < 0 or any(begins[:2] + ends[:2]):
        return None
    return begins[2:] + ends[2:]
