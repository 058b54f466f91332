"""ONNX's Conv -> the internal Conv: every attribute present, padding explicit."""

from __future__ import annotations

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.passes.canonical import window
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_onnx, no_activation


@sweep
def run(editor: Editor, node: Node) -> None:
    """Rewrite every f32 Conv whose weights have a static shape."""
    if not is_onnx(node, "Conv") or not all_f32(*node.inputs, *node.outputs):
        return
    x, weights = node.inputs[0], node.inputs[1]
    if x.shape is None or not weights.is_static:
        return
    if len(x.shape) < 3 or len(weights.static_shape) != len(x.shape):
        raise ModelError(
            f"{node.where}: the input has rank {len(x.shape)}, the weights {len(weights.static_shape)}; "
            "both must have the same rank, at least 3."
        )
    found = window.resolve(node, list(weights.static_shape[2:]))
    if found is None:
        return
    _check_output(node, found)
    attributes = found.attributes() | {"group": node.attributes.get("group", 1), **no_activation()}
    if "precision" in node.attributes:
        attributes["precision"] = node.attributes["precision"]
    editor.replace(node, internal("Conv", node, [x, weights, node.input(2), None], node.outputs, attributes))


def _check_output(node: Node, found: window.Window) -> None:
    x, output = node.inputs[0], node.outputs[0]
    if not x.is_static or not output.is_static:
        return
    extents = [found.output_extent(axis, extent) for axis, extent in enumerate(x.static_shape[2:])]
    shape = (x.static_shape[0], node.inputs[1].static_shape[0], *extents)
    if output.shape != shape or any(extent < 0 for extent in extents):
        raise ModelError(
            f"{node.where}: kernel {found.kernel}, strides {found.strides}, dilations {found.dilations} and pads "
            f"{found.pads} give the shape {list(shape)}, not {list(output.static_shape)}."
        )
