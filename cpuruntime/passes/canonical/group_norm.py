"""InstanceNormalization, GroupNormalization and the latter's spelling by Reshapes -> the internal GroupNorm."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_internal, is_onnx, merge_origins, no_activation


@sweep
def run(editor: Editor, node: Node) -> None:
    """Rewrite those of images and signals whose parameters are constant."""
    if not is_onnx(node, "InstanceNormalization", "GroupNormalization") or not all_f32(*node.inputs, *node.outputs):
        return
    x, scale, shift = node.inputs[:3]
    if not x.is_static or len(x.static_shape) < 3 or 0 in x.static_shape:
        return
    if scale.constant is None or shift.constant is None:
        return
    channels = x.static_shape[1]
    groups = channels if node.op_type == "InstanceNormalization" else node.attributes["num_groups"]
    if groups < 1 or channels % groups or not scale.shape == shift.shape in ((channels,), (groups,)):
        return
    before, after = _reshapes(editor, node) if groups == channels else (None, None)
    if before is not None and after is not None:
        x = before.inputs[0]
        channels = x.static_shape[1]
    if len(x.static_shape) not in (3, 4):
        return
    parameters = [x, _for_channels(editor, scale, channels), _for_channels(editor, shift, channels), None]
    attributes = {"groups": groups, "epsilon": node.attributes.get("epsilon", 1e-5), **no_activation()}
    fused = internal("GroupNorm", node, parameters, node.outputs[:1], attributes)
    editor.replace(node, fused)
    if before is not None and after is not None:
        fused.origins = merge_origins(before, node)
        editor.take_output(fused, after)


def _reshapes(editor: Editor, node: Node) -> tuple[Node, Node] | tuple[None, None]:
    """The Reshapes around a normalisation of [N, groups, rest] that is one of [N, C, ...]."""
    before, after = node.inputs[0].producer, editor.sole_user(node.outputs[0])
    if not is_internal(before, "Reshape") or not is_internal(after, "Reshape"):
        return None, None
    whole, part = before.inputs[0], node.inputs[0].static_shape
    if not whole.is_static or len(whole.static_shape) not in (3, 4) or after.outputs[0].shape != whole.shape:
        return None, None
    fits = whole.static_shape[0] == part[0] and whole.static_shape[1] % part[1] == 0
    return (before, after) if fits else (None, None)


def _for_channels(editor: Editor, value: Value, channels: int) -> Value:
    """One number for each channel, of a constant that may have one for each group."""
    repeated = np.repeat(value.constant, channels // value.constant.size)
    return value if value.constant.size == channels else editor.constant(f"{value.name}/channels", repeated)
