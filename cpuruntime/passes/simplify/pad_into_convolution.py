"""Moves padding with zeros from a Pad into the convolutions that read it."""

from __future__ import annotations

from cpuruntime.graph import Node
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_internal, is_onnx, merge_origins, scalar


@sweep
def run(editor: Editor, node: Node) -> None:
    """Add the pads to those of every Conv that reads the Pad, if all that read it are Convs."""
    pads = _spatial_pads(node) if is_onnx(node, "Pad") else None
    padded = node.outputs[0]
    users = editor.users(padded)
    convolved = all(is_internal(user, "Conv") and user.inputs.index(padded) == 0 for user in users)
    if pads is None or editor.is_output(padded) or not convolved or len(set(users)) < len(users):
        return
    for user in users:
        user.attributes["pads"] = [old + more for old, more in zip(user.attributes["pads"], pads)]
        user.origins = merge_origins(node, user)
        editor.set_input(user, 0, node.inputs[0])


def _spatial_pads(node: Node) -> list[int] | None:
    """Begins, then ends, of the spatial axes; None where `node` does anything but pad those with zeros."""
    x, pads, value, axes = node.inputs[0], node.input(1), node.input(2), node.input(3)
    if node.attributes.get("mode", "constant") != "constant" or x.shape is None or len(x.shape) < 3:
        return None
    known = all(given is None or given.constant is not None for given in (pads, axes))
    if pads is None or not known or (value is not None and scalar(value) != 0):
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
