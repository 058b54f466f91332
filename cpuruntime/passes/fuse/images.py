"""Images of bytes on their way into a model -> Image: resizing, moved channels, mean and scale in one pass.

What is recognised is what `cpuruntime.preprocess` writes, and programs that exporters make of the same steps: casts,
transpositions, channels reversed or left out, a Resize, one number a channel subtracted, and one divided by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx
from cpuruntime.records import record

_POSITIONS = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
_IDENTITY = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@record
class _Chain:
    """A chain so far, that ends with `value`.

    Attributes:
        order: for each axis of `value` the source's axis.
        channel: the source's axis of channels, None where nothing says.
        first, step: the source's channel that is `value`'s first, and from one to the next.
        resize: the Resize, and in `spatial` the source's axes that are its rows and columns.
        rounds: whether the Resize's result was rounded to bytes.
        mean, scale: numbers, one or one a channel.
        nodes: what the chain is made of.
    """

    value: Value
    order: tuple[int, ...] = (0, 1, 2, 3)
    channel: int | None = None
    first: int = 0
    step: int = 1
    resize: Node | None = None
    spatial: tuple[int, int] | None = None
    rounds: bool = False
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    nodes: tuple[Node, ...] = ()

    @property
    def is_arithmetic(self) -> bool:
        return self.mean is not None or self.scale is not None

    def then(self, *nodes: Node, **changes: Any) -> _Chain:
        """The chain with more nodes."""
        return replace(self, value=nodes[-1].outputs[0], nodes=(*self.nodes, *nodes), **changes)


@sweep
def run(editor: Editor, node: Node) -> None:
    """The longest chain from `node` on that begins with bytes and ends with f32."""
    if not is_onnx(node, "Cast", "Transpose", "Slice"):
        return
    source = node.require(0)
    if source.element_type is not Type.u8 or source.constant is not None or not _is_image(source):
        return
    chain: _Chain | None = _Chain(source)
    best, user = None, node
    while chain is not None and user is not None:
        chain = _extended(editor, chain, user)
        if chain is not None:
            best = chain if chain.value.element_type is Type.f32 else best
            user = editor.sole_user(chain.value)
    axes = None if best is None else _axes(best)
    if best is None or axes is None or not (best.resize or best.is_arithmetic or best.order != (0, 1, 2, 3)):
        return
    *others, last = best.nodes
    for one in others:
        editor.remove(one)
    numbers = [_constant(editor, last, name, data) for name, data in (("mean", best.mean), ("scale", best.scale))]
    attributes = dict(best.resize.attributes if best.resize else _IDENTITY)
    attributes |= {"axes": axes, "order": [axes.index(axis) for axis in best.order], "rounds": int(best.rounds)}
    attributes |= {"first": best.first, "step": best.step}
    editor.replace(last, internal("Image", last, [source, *numbers], last.outputs, attributes, best.nodes))


def _is_image(value: Value) -> bool:
    return value.is_static and len(value.static_shape) == 4 and 0 not in value.static_shape


def _constant(editor: Editor, node: Node, name: str, data: np.ndarray | None) -> Value | None:
    return None if data is None else editor.constant(f"{node.name}/{name}", data)


def _extended(editor: Editor, chain: _Chain, node: Node) -> _Chain | None:
    """The chain with `node`, which reads its value; None where it does not belong to it."""
    if node.domain or node.inputs[0] is not chain.value or not _is_image(node.outputs[0]):
        return None
    kind = chain.value.element_type
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm") or [3, 2, 1, 0]
        return chain.then(node, order=tuple(chain.order[axis] for axis in perm))
    if node.op_type == "Cast":
        return chain.then(node) if kind is Type.u8 and node.outputs[0].element_type is Type.f32 else None
    if node.op_type == "Slice":
        return _sliced(chain, node)
    if node.op_type == "Resize" and kind is Type.f32:
        return _resized(chain, node)
    if node.op_type == "Round":
        return _rounded(editor, chain, node)
    return _computed(chain, node) if node.op_type in ("Sub", "Div") and kind is Type.f32 else None


def _sliced(chain: _Chain, node: Node) -> _Chain | None:
    """With channels reversed, or with some of them left out."""
    parameters = [node.input(index) for index in range(1, 5)]
    if chain.is_arithmetic or not all(value is not None and value.constant is not None for value in parameters):
        return None
    starts, ends, axes, steps = (value.data.reshape(-1).tolist() for value in parameters if value is not None)
    if len(axes) != 1 or steps[0] not in (1, -1):
        return None
    axis = axes[0] % 4
    count, channel = chain.value.static_shape[axis], chain.order[axis]
    if not isinstance(count, int):
        return None
    begin, end, step = slice(starts[0], ends[0] if ends[0] >= -count else None, steps[0]).indices(count)
    is_whole = len(range(begin, end, step)) == node.outputs[0].static_shape[axis]
    if chain.channel not in (None, channel) or not is_whole or channel in (chain.spatial or ()):
        return None
    first = chain.first + chain.step * begin
    return chain.then(node, channel=channel, first=first, step=chain.step * step)


def _resized(chain: _Chain, node: Node) -> _Chain | None:
    sizes, scales = node.input(3), node.input(2)
    attributes = node.attributes
    spatial = (chain.order[2], chain.order[3])
    if chain.resize is not None or chain.is_arithmetic or sizes is None or node.version < 11:
        return None
    if scales is not None and 0 not in scales.static_shape:
        return None
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch" or chain.channel in spatial:
        return None
    position, mode = attributes.get("coordinate_transformation_mode", "half_pixel"), attributes.get("mode", "nearest")
    if position not in _POSITIONS or mode not in ("nearest", "linear", "cubic"):
        return None
    if chain.value.static_shape[:2] != node.outputs[0].static_shape[:2]:
        return None
    return chain.then(node, resize=node, spatial=spatial)


def _rounded(editor: Editor, chain: _Chain, node: Node) -> _Chain | None:
    """With Round, Clip to bytes, and Cast to bytes, behind the Resize."""
    clip = editor.sole_user(node.outputs[0])
    cast = editor.sole_user(clip.outputs[0]) if is_onnx(clip, "Clip") else None
    if clip is None or not is_onnx(cast, "Cast") or cast.outputs[0].element_type is not Type.u8:
        return None
    limits = [value and value.numbers for value in (clip.input(1), clip.input(2))]
    if chain.is_arithmetic or chain.resize is None or limits != [[0.0], [255.0]]:
        return None
    return chain.then(node, clip, cast, rounds=True)


def _computed(chain: _Chain, node: Node) -> _Chain | None:
    """With a number, or one a channel, subtracted, or divided by."""
    value = node.require(1)
    if value.constant is None or value.element_type is not Type.f32:
        return None
    name = "mean" if node.op_type == "Sub" else "scale"
    if chain.scale is not None or (name == "mean" and chain.mean is not None):
        return None
    if node.outputs[0].static_shape != chain.value.static_shape:
        return None
    shape = (1,) * (4 - value.constant.ndim) + value.constant.shape
    wide = [axis for axis, extent in enumerate(shape) if extent != 1]
    channel = chain.channel
    if wide:
        channel = chain.order[wide[0]]
        if len(wide) > 1 or chain.channel not in (None, channel) or channel in (chain.spatial or ()):
            return None
    return chain.then(node, channel=channel, **{name: value.constant.reshape(-1)})


def _axes(chain: _Chain) -> list[int] | None:
    """The source's axes of batch, channels, rows and columns; None where rows of pixels are not contiguous."""
    channel = chain.channel
    if chain.spatial is None:
        if channel == 3 or (channel is None and chain.order[3] != 3):
            return [0, 3, 1, 2]
        rows, columns = max({0, 1, 2} - {channel}), 3
    else:
        rows, columns = chain.spatial
    rest = [axis for axis in range(4) if axis not in (rows, columns)]
    if columns == 2 and rest[1] == 3 and channel in (None, 3):
        return [rest[0], 3, rows, 2]
    if columns != 3:
        return None
    channel = rest[1] if channel is None else channel
    return [sum(rest) - channel, channel, rows, 3]
