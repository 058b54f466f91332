"""Where bytes become numbers and numbers bytes: what is left of QuantizeLinear and DequantizeLinear around bytes."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Graph, Node, Type
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import internal, is_onnx
from cpuruntime.passes.quantise.scales import BYTES, one_scale, read


def run(graph: Graph) -> bool:
    """QuantizeLinear whose bytes an operator or the caller reads -> Quantise; DequantizeLinear of bytes that an
    operator or the caller makes -> Dequantise. A pair between float32 operators stays, as does what has many scales."""
    editor = Editor(graph)
    for node in editor.nodes():
        if is_onnx(node, "QuantizeLinear"):
            _quantise(editor, node)
        elif is_onnx(node, "DequantizeLinear"):
            _dequantise(editor, node)
    return editor.finish()


def _quantise(editor: Editor, node: Node) -> None:
    x, output, found = node.require(0), node.outputs[0], one_scale(node)
    if found is None or x.element_type is not Type.f32 or output.element_type not in BYTES or not output.is_static:
        return
    if not editor.is_output(output) and all(is_onnx(user, "DequantizeLinear") for user in editor.users(output)):
        return
    scale, zero = found
    limits = np.iinfo(output.element_type.to_dtype())
    attributes = {"y_scale": scale, "y_zero": zero, "low": int(limits.min), "high": int(limits.max)}
    editor.replace(node, internal("Quantise", node, [x], [output], attributes))


def _dequantise(editor: Editor, node: Node) -> None:
    source = read(node.outputs[0])
    if source is None or is_onnx(source.value.producer, "QuantizeLinear"):
        return
    attributes = {"x_scale": source.scale, "x_zero": source.zero}
    editor.replace(node, internal("Dequantise", node, [source.value], node.outputs, attributes))
