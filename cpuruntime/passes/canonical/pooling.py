"""Pools with every attribute present and explicit padding."""

from __future__ import annotations

from typing import Any

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.passes.canonical import window
from cpuruntime.passes.canonical.views import reshaped
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_onnx

# The operator set in which the pool has all the attributes; an attribute that only it has, and its default.
_VERSION = {"MaxPool": 12, "AveragePool": 19, "LpPool": 18}
MOST_POWER = 16
_TYPES = (Type.f32, Type.f64, Type.i8, Type.u8)
_OWN = {"MaxPool": ("storage_order", 0), "AveragePool": ("count_include_pad", 0), "LpPool": ("p", 2)}


@sweep
def run(editor: Editor, node: Node) -> None:
    """Make the attributes of MaxPool, AveragePool and LpPool explicit; drop indices of MaxPool that nobody reads;
    LpPool, and MaxPool with indices, of f64 or of volumes of bytes -> the internal WindowPool; the mean over all
    spatial axes -> GlobalAveragePool."""
    if is_onnx(node, *_VERSION) and node.inputs[0].shape is not None:
        _rewrite(editor, node)
    elif is_onnx(node, "ReduceMean"):
        _global(editor, node)


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
    name, default = _OWN[node.op_type]
    own = {"ceil_mode": 0 if same else old.get("ceil_mode", 0), name: old.get(name, default)}
    attributes = found.attributes() | own
    outputs = node.outputs
    if len(outputs) == 2 and not editor.users(outputs[1]) and not editor.is_output(outputs[1]):
        outputs = outputs[:1]
    power = _power(node, attributes, len(outputs))
    if power is not None:
        editor.replace(node, internal("WindowPool", node, node.inputs, outputs, attributes | {"power": power}))
        return
    version = max(node.version, _VERSION[node.op_type])
    if (attributes, version, len(outputs)) != (old, node.version, len(node.outputs)):
        editor.replace(node, Node(node.op_type, node.name, node.inputs, outputs, attributes, "", version, node.origins))


def _power(node: Node, attributes: dict[str, Any], outputs: int) -> int | None:
    """That of the WindowPool which computes the pool; None for one that has a kernel of its own, or none at all."""
    x = node.inputs[0]
    if not x.is_static or not all(value.is_static for value in node.outputs) or not 3 <= len(x.static_shape) <= 5:
        return None
    if node.op_type == "LpPool":
        return attributes["p"] if 0 < attributes["p"] <= MOST_POWER and all_f32(x) else None
    is_blocked = x.element_type in (Type.u8, Type.i8) and len(x.static_shape) < 5
    is_plain = x.element_type in _TYPES and (outputs > 1 or not (all_f32(x) or is_blocked))
    return 0 if node.op_type == "MaxPool" and is_plain else None


def _global(editor: Editor, node: Node) -> None:
    x, axes = node.inputs[0], node.input(1)
    if not all_f32(x) or x.shape is None or len(x.shape) < 3 or axes is None or axes.constant is None:
        return
    rank = len(x.shape)
    if sorted(axis % rank for axis in axes.constant.tolist()) != list(range(2, rank)):
        return
    output, views = node.outputs[0], []
    if not node.attributes.get("keepdims", 1):
        if not output.is_static:
            return
        pooled = editor.value(output.name, x.element_type, (*x.shape[:2], *[1] * (rank - 2)))
        views, output = [reshaped(editor, node, pooled, output)], pooled
    editor.replace(node, Node("GlobalAveragePool", node.name, [x], [output], {}, "", 1, node.origins), *views)
