"""Merges chains of Relu, Clip, and Max and Min with a number."""

from __future__ import annotations

from math import inf

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, is_onnx, merge_origins, scalar


@sweep
def run(editor: Editor, node: Node) -> None:
    """One Relu or Clip for each chain whose inner values no others read; also for a single Max or Min."""
    bounds, source = _clamp(node)
    if source is None:
        return
    chain = [node]
    following = editor.sole_user(node.outputs[0])
    while following is not None and (later := _clamp(following))[1] is chain[-1].outputs[0]:
        bounds = [min(max(bound, later[0][0]), later[0][1]) for bound in bounds]
        chain.append(following)
        following = editor.sole_user(following.outputs[0])
    if len(chain) > 1 or node.op_type in ("Max", "Min"):
        _replace(editor, source, bounds, chain)


def clip_bounds(node: Node) -> list[float] | None:
    """The lowest and the highest result of a Clip; None when they are not constants."""
    values = (node.input(1), node.input(2))
    bounds = [bound if value is None else scalar(value) for value, bound in zip(values, (-inf, inf))]
    return None if None in bounds else bounds


def _clamp(node: Node) -> tuple[list[float], Value | None]:
    """The bounds between which `node` holds a value, and that value; None in its place when `node` is no clamp."""
    if not is_onnx(node, "Relu", "Clip", "Max", "Min") or not all_f32(*node.inputs):
        return [], None
    if node.op_type == "Relu":
        return [0.0, inf], node.inputs[0]
    if node.op_type == "Clip":
        bounds = clip_bounds(node)
        return ([], None) if bounds is None else (bounds, node.inputs[0])
    if len(node.inputs) == 2:
        for index in (1, 0):
            bound, source = scalar(node.inputs[index]), node.inputs[1 - index]
            if bound is not None and source.shape is not None and source.shape == node.outputs[0].shape:
                return ([bound, inf] if node.op_type == "Max" else [-inf, bound]), source
    return [], None


def _replace(editor: Editor, source: Value, bounds: list[float], chain: list[Node]) -> None:
    last, inputs = chain[-1], [source]
    if bounds != [0.0, inf]:
        inputs += [
            editor.constant(f"{last.name}/{name}", np.array(bound, np.float32)) if np.isfinite(bound) else None
            for name, bound in zip(("min", "max"), bounds)
        ]
    op_type, version = ("Clip", 13) if len(inputs) > 1 else ("Relu", 14)
    for inner in chain[:-1]:
        editor.remove(inner)
    editor.replace(last, Node(op_type, last.name, inputs, last.outputs, {}, "", version, merge_origins(*chain)))
