"""ONNX's ConvTranspose -> the internal one: padding explicit, output channels first in the weights, as in Conv."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.passes.canonical import window
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_onnx, no_activation

# A kernel is packed by phase: strides are 2 to 8 in models, so 64 phases.
PHASES = 4096


@sweep
def run(editor: Editor, node: Node) -> None:
    """Rewrite every f32 ConvTranspose of constant weights over one or two spatial axes whose shapes are static."""
    if not is_onnx(node, "ConvTranspose") or not all_f32(*node.inputs, *node.outputs):
        return
    x, weights, bias = node.inputs[0], node.inputs[1], node.input(2)
    constant = weights.constant is not None and (bias is None or bias.constant is not None)
    if not constant or not x.is_static or not node.outputs[0].is_static or len(x.static_shape) not in (3, 4):
        return
    group = node.attributes.get("group", 1)
    array = weights.constant
    if array.ndim != len(x.static_shape) or array.shape[0] != x.static_shape[1] or array.shape[0] % group:
        raise ModelError(
            f"{node.where}: weights of shape {list(array.shape)} do not fit an input of shape {list(x.static_shape)} "
            f"in {group} groups; axis 0 must have its channels."
        )
    found = padded_window(node, list(array.shape[2:]))
    if found is None or _has_many_phases(node, found):
        return
    _check_output(node, found, array.shape[1] * group)
    attributes = found.attributes() | {"group": group, **no_activation()}
    outputs_first = editor.constant(f"{weights.name}/outputs_first", _outputs_first(array, group))
    inputs = [x, outputs_first, bias, None]
    editor.replace(node, internal("ConvTranspose", node, inputs, node.outputs, attributes))


def _has_many_phases(node: Node, found: window.Window) -> bool:
    """Whether planning each phase of the output, and what part of the kernel it sees, would take long."""
    extents = node.outputs[0].static_shape[2:]
    axes = [min(stride, extent) for stride, extent in zip(found.strides, extents)]
    return prod(axes) > PHASES or sum(phases * size for phases, size in zip(axes, found.kernel)) > PHASES * 16


def _outputs_first(weights: np.ndarray, group: int) -> np.ndarray:
    """[C][M / group]... as [M][C / group]..., where M are all output channels."""
    if group == 1:
        return weights.swapaxes(0, 1)
    inputs, outputs, *kernel = weights.shape
    parts = weights.reshape(group, inputs // group, outputs, *kernel).swapaxes(1, 2)
    return parts.reshape(group * outputs, inputs // group, *kernel)


def padded_window(node: Node, kernel: list[int]) -> window.Window | None:
    """The window with the padding that the attributes state or the output's shape implies; None for a negative one."""
    rank = len(kernel)
    mode = node.attributes.get("auto_pad", "NOTSET")
    stated = Node(node.op_type, node.name, node.inputs, [], node.attributes | {"auto_pad": "NOTSET"}, "", node.version)
    found = window.resolve(stated, kernel)
    assert found is not None
    if mode in ("NOTSET", "VALID") and not node.attributes.get("output_shape"):
        pads = [0] * (2 * rank) if mode == "VALID" else found.pads
        return window.Window(kernel, found.strides, found.dilations, pads)
    extra = node.attributes.get("output_padding") or [0] * rank
    extents = enumerate(zip(node.inputs[0].static_shape[2:], node.outputs[0].static_shape[2:]))
    totals = [found.reach(axis, extent) + extra[axis] - target for axis, (extent, target) in extents]
    pads = window.shared(totals, lower=mode != "SAME_UPPER")
    return window.Window(kernel, found.strides, found.dilations, pads) if min(pads) >= 0 else None


def _check_output(node: Node, found: window.Window, channels: int) -> None:
    """The extents may be larger than the windows reach, by output_padding, which must be less than a stride."""
    x, output = node.inputs[0].static_shape, node.outputs[0].static_shape
    fits = output[:2] == (x[0], channels)
    for axis, (extent, target) in enumerate(zip(x[2:], output[2:])):
        pads = found.pads[axis] + found.pads[axis + len(found.kernel)]
        reach = found.reach(axis, extent) - pads
        room = max(found.strides[axis], found.dilations[axis])
        fits = fits and all(n > 0 for n in (extent, found.strides[axis], found.dilations[axis]))
        fits = fits and 0 <= target - reach < room
    if not fits:
        raise ModelError(
            f"{node.where}: kernel {found.kernel}, strides {found.strides}, dilations {found.dilations} and pads "
            f"{found.pads} of an input of shape {list(x)} do not give the shape {list(output)}."
        )
