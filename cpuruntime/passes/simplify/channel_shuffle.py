"""Reshape, Transpose, Reshape that interleave the channels of groups -> ChannelShuffle."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_internal, is_onnx, runs


@sweep
def run(editor: Editor, node: Node) -> None:
    """Recognise the pattern however the batch and the spatial axes are spelled in between."""
    if not is_internal(node, "Reshape") or not all_f32(*node.inputs):
        return
    transpose = node.inputs[0].producer
    if not is_onnx(transpose, "Transpose") or editor.sole_user(node.inputs[0]) is not node:
        return
    split = transpose.inputs[0]
    first = split.producer
    if not is_internal(first, "Reshape") or editor.sole_user(split) is not transpose:
        return
    source, output = first.inputs[0], node.outputs[0]
    if not source.is_static or source.shape != output.shape or len(source.static_shape) < 3:
        return
    perm = transpose.attributes.get("perm") or list(range(len(split.static_shape)))[::-1]
    group = _group(source.static_shape, split.static_shape, perm)
    if group is not None:
        merged = (first, transpose, node)
        editor.replace(node, internal("ChannelShuffle", node, [source], [output], {"group": group}, merged))


def _group(shape: tuple[int, ...], split: tuple[int, ...], perm: list[int]) -> int | None:
    """The number of groups, when `split` in the order `perm` is a shuffle of the channels of `shape`."""
    extents, order = _shortest(split, perm)
    at = 1 if shape[0] > 1 else 0
    swapped = [*range(at), at + 1, at, *range(at + 2, len(extents))]
    if len(extents) < at + 2 or order != swapped:
        return None
    parts = (prod(extents[:at]), extents[at] * extents[at + 1], prod(extents[at + 2 :]))
    return extents[at] if parts == (shape[0], shape[1], prod(shape[2:])) else None


def _shortest(shape: tuple[int, ...], perm: list[int]) -> tuple[list[int], list[int]]:
    """The same transposition without axes of extent 1 and with axes that move together made one."""
    long = [axis for axis in range(len(shape)) if shape[axis] != 1]
    order = [long.index(axis) for axis in perm if shape[axis] != 1]
    parts = runs(order)
    ranked = sorted(parts)
    extents = [prod(shape[long[axis]] for axis in run) for run in ranked]
    return extents, [ranked.index(run) for run in parts]
