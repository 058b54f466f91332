"""Averages of bytes that end in bytes -> QuantisedAveragePool."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.passes.canonical import window
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx
from cpuruntime.passes.quantise.scales import LARGEST, MOST, is_usable, read, written

_LARGEST = 255
"""The largest distance of a byte from its zero point."""


@sweep
def run(editor: Editor, node: Node) -> None:
    """AveragePool and GlobalAveragePool of images between DequantizeLinear and QuantizeLinear; windows whose last ones
    reach beyond the padding stay as they are."""
    if not is_onnx(node, "AveragePool", "GlobalAveragePool"):
        return
    x, end, output = read(node.inputs[0]), written(editor, node.outputs[0]), node.outputs[0]
    if x is None or end is None or not output.is_static or len(x.value.static_shape) not in (3, 4):
        return
    shape = x.value.static_shape
    whole = node.op_type == "GlobalAveragePool"
    kernel = list(shape[2:]) if whole else node.attributes.get("kernel_shape", [])
    if 0 in shape or len(kernel) != len(shape) - 2:
        return
    moves = window.resolve(node, kernel)
    multiplier = np.array(x.scale / end.scale)
    if moves is None or not is_usable(multiplier) or _LARGEST * multiplier >= LARGEST or _LARGEST * prod(kernel) > MOST:
        return
    if output.static_shape != (*shape[:2], *(moves.output_extent(i, extent) for i, extent in enumerate(shape[2:]))):
        return
    attributes = moves.attributes() | end.attributes() | {
        "count_include_pad": node.attributes.get("count_include_pad", 0), "x_zero": x.zero,
        "multiplier": float(np.float32(multiplier)),
    }  # fmt: skip
    merged = [node, *end.nodes]
    made = internal("QuantisedAveragePool", node, [x.value], [end.output], attributes, merged=merged)
    for each in merged[:-1]:
        editor.remove(each)
    editor.replace(merged[-1], made)
