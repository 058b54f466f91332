"""Inference of Reshape nodes: targets that follow the shape of the input, and shapes that are known in part."""

from __future__ import annotations

import math

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.operators.reshape_targets import new_shape, to_target

# attributes of a Reshape that follows its input: the shapes it has seen
_FROM, _TO = "reshaped_from", "reshaped_to"


def let_follow(old: Node, new: Node) -> None:
    """Note the shapes of a Reshape with a constant target, so that it keeps, merges and splits the same dimensions."""
    if old.op_type != "Reshape" or old.domain or old.attributes.get("allowzero", 0) or _FROM in old.attributes:
        return
    data, target, output = old.inputs[0], old.input(1), old.outputs[0]
    if data is None or target is None or target.constant is None or not data.is_static or not output.is_static:
        return
    new.attributes[_FROM], new.attributes[_TO] = list(data.static_shape), list(output.static_shape)


def follows(node: Node) -> bool:
    """Whether a node is a Reshape whose target follows its input's shape."""
    return _FROM in node.attributes


def follow(node: Node) -> bool:
    """Infer a Reshape that follows its input's shape, and give it a target for that; false when it cannot."""
    data, target = node.inputs[0], node.inputs[1]
    if data is None or target is None or data.shape is None:
        return False
    before, after = node.attributes[_FROM], node.attributes[_TO]
    shape = new_shape(before, after, data.shape)
    if shape is None:
        return False
    fitting = to_target(before, after, shape)
    if fitting is not None:
        node.inputs[1] = Value.of(target.name, np.array(fitting, np.int64))
    node.outputs[0].element_type, node.outputs[0].shape = data.element_type, tuple(shape)
    return True


def infer_partial(node: Node, target: np.ndarray | None) -> None:
    """The output's shape when some extents of the input or of the target are not known."""
    data, output = node.inputs[0], node.outputs[0]
    shape = node.inputs[1].shape if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if target is None or target.ndim != 1 or data is None:
        if output.shape is None and shape is not None and len(shape) == 1 and shape[0] is not None:
            output.shape = (None,) * shape[0] if shape[0] <= 64 else None
        return
    keeps = not node.attributes.get("allowzero", 0)
    dims: list[int | None] = []
    for index, extent in enumerate(target.tolist()):
        if extent == 0 and keeps:
            extent = data.shape[index] if data.shape is not None and index < len(data.shape) else None
        elif extent == -1:
            extent = None
        dims.append(extent)
    if dims.count(None) == 1 and data.is_static:
        rest, size = math.prod(d for d in dims if d is not None), math.prod(data.static_shape)
        if rest and size % rest == 0:
            dims[dims.index(None)] = size // rest
    output.shape = tuple(dims)
