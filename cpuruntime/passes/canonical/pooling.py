"""Pools with every attribute present and explicit padding."""

from __future__ import annotations

from typing import Any

from cpuruntime.errors import ModelError
from cpuruntime.graph import Graph, Node
from cpuruntime.passes.canonical import window
from cpuruntime.passes.canonical.views import reshaped
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import all_f32, is_onnx

# The operator set in which the pool has all the attributes.
_VERSION = {"MaxPool": 12, "AveragePool": 19, "LpPool": 18}


def run(graph: Graph) -> bool:
    """Make the attributes of MaxPool, AveragePool and LpPool explicit; drop indices of MaxPool that nobody reads; the
    mean over all spatial axes -> GlobalAveragePool."""
    editor = Editor(graph)
    for node in editor.nodes():
        if is_onnx(node, *_VERSION) and node.inputs[0].shape is not None:
            _rewrite(editor, node)
        elif is_onnx(node, "ReduceMean"):
            _global(editor, node)
    return editor.finish()


def _rewrite(editor: Editor, node: Node) -> None:
    old = node.attributes
    kernel = old.get("kernel_shape")
    if kernel is None or len(kernel) != len(node.inputs[0].shape) - 2:
        axes = len(node.inputs[0].shape) - 2
        raise ModelError(f"{node.where}: kernel_shape {kernel}; {axes} spatial axes need as many entries.")
    found = window.resolve(node, kernel)
    if found is None:
        return
    same = old.get("auto_pad", "NOTSET").startswith("SAME")
    attributes: dict[str, Any] = {
        "kernel_shape": found.kernel,
        "strides": found.strides,
        "dilations": found.dilations,
        "pads": found.pads,
        "ceil_mode": 0 if same else old.get("ceil_mode", 0),
    }
    if node.op_type == "MaxPool":
        attributes["storage_order"] = old.get("storage_order", 0)
    elif node.op_type == "AveragePool":
        attributes["count_include_pad"] = old.get("count_include_pad", 0)
    else:
        attributes["p"] = old.get("p", 2)
    outputs = node.outputs
    if len(outputs) == 2 and not editor.users(outputs[1]) and not editor.is_output(outputs[1]):
        outputs = outputs[:1]
    version = max(node.version, _VERSION[node.op_type])
    if (attributes, version, len(outputs)) != (old, node.version, len(node.outputs)):
        editor.replace(node, Node(node.op_type, node.name, node.inputs, outputs, attributes, "", version, node.origins))


def _global(editor: Editor, node: Node) -> None:
    x, axes = node.inputs[0], node.input(1)
    if not all_f32(x) or x.shape is None or len(x.shape) < 3 or axes is None or axes.constant is None:
        return
    rank = len(x.shape)
    if sorted(axis % rank for axis in axes.constant.tolist()) != list(range(2, rank)):
        return
    if node.attributes.get("keepdims", 1):
        pool = Node("GlobalAveragePool", node.name, [x], node.outputs, {}, "", 1, node.origins)
        editor.replace(node, pool)
        return
    output = node.outputs[0]
    if not output.is_static:
        return
    pooled = editor.value(output.name, x.element_type, (*x.shape[:2], *[1] * (rank - 2)))
    pool = Node("GlobalAveragePool", node.name, [x], [pooled], {}, "", 1, node.origins)
    editor.replace(node, pool, reshaped(editor, node, pooled, output))
