"""Constants of quantised models: zero points that are cast, weights quantised in the graph, scales of biases."""

from __future__ import annotations

from cpuruntime.errors import Error
from cpuruntime.graph import Node
from cpuruntime.operators import shape_inference
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx

_FOLDED = (
    "BitShift", "BitwiseAnd", "Cast", "Concat", "Expand", "Identity", "Mul", "QuantizeLinear", "Reshape", "Slice",
    "Squeeze", "Unsqueeze",
)  # fmt: skip


@sweep
def run(editor: Editor, node: Node) -> None:
    """What makes a constant of constants, but for DequantizeLinear: bytes with their scale say more than numbers."""
    if not is_onnx(node, *_FOLDED) or any(value is not None and value.constant is None for value in node.inputs):
        return
    if editor.is_output(node.outputs[0]) or len(node.outputs) != 1:
        return
    try:
        results = shape_inference.evaluate(node, [None if value is None else value.constant for value in node.inputs])
    except Error:
        return  # a later pass says what is wrong
    editor.fold(node, results)
