"""Convolutions of bytes with constant bytes -> QuantisedConvolution."""

from __future__ import annotations

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Value
from cpuruntime.passes.canonical import window
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx
from cpuruntime.passes.quantise.scales import BYTES, Bytes, Weights, Written, as_weights, pair, read, weights
from cpuruntime.passes.quantise.sums import Sums, constant_bias


@sweep
def run(editor: Editor, node: Node) -> None:
    """Conv between DequantizeLinear and QuantizeLinear, with Relu, Clip and an Add of bytes; Conv of bytes with a
    result in float32; QLinearConv."""
    if is_onnx(node, "Conv"):
        _between(editor, node)
    elif is_onnx(node, "QLinearConv"):
        _whole(editor, node)


def _between(editor: Editor, node: Node) -> None:
    x, found, bias = read(node.inputs[0]), weights(node.inputs[1], 0), node.input(2)
    if x is None or found is None or not node.outputs[0].is_static:
        return
    sums = Sums(node, x, found, None, 0)
    if bias is not None:
        sums.bias = constant_bias(bias, sums.scale)
        if sums.bias is None:
            return
    _replace(editor, sums)


def _whole(editor: Editor, node: Node) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = map(node.require, range(8))
    of_x, of_y, bias = pair(x_scale, x_zero), pair(y_scale, y_zero), node.input(8)
    constants = [w.constant, w_scale.constant, w_zero.constant] + ([] if bias is None else [bias.constant])
    if of_x is None or of_y is None or any(each is None for each in constants) or not x.is_static:
        return
    output = node.outputs[0]
    if not output.is_static or not {x.element_type, w.element_type, output.element_type} <= {*BYTES}:
        return
    found = as_weights(np.asarray(w.data), w_scale.data, w_zero.data, 0)
    if found is None or x.constant is not None or (bias is not None and bias.static_shape != w.data.shape[:1]):
        return
    limits = np.iinfo(output.element_type.to_dtype())
    end = Written([], output, *of_y, int(limits.min), int(limits.max))
    _replace(editor, Sums(node, Bytes(x, *of_x), found, None if bias is None else bias.data, 0), end)


def _replace(editor: Editor, sums: Sums, end: Written | None = None) -> None:
    node, x = sums.node, sums.x
    attributes = _attributes(node, x.value, sums.weights, node.outputs[0])
    if attributes is not None:
        constant = editor.constant(f"{node.name}/weights", np.ascontiguousarray(sums.weights.array))
        sums.replace(editor, "QuantisedConvolution", [x.value, constant], attributes | {"x_zero": x.zero}, end)


def _attributes(node: Node, x: Value, found: Weights, output: Value) -> dict[str, object] | None:
    """Those of a convolution; None for one of volumes, or whose padding is not known."""
    array, rank, group = found.array, len(x.static_shape), node.attributes.get("group", 1)
    if rank not in (3, 4) or array.ndim != rank or 0 in (*x.static_shape, *output.static_shape):
        return None
    moves = window.resolve(node, list(array.shape[2:]))
    if moves is None:
        return None
    batch, channels, *extents = x.static_shape
    counts = [moves.output_extent(axis, extent) for axis, extent in enumerate(extents)]
    if channels != array.shape[1] * group or array.shape[0] % group or output.shape != (batch, array.shape[0], *counts):
        raise ModelError(
            f"{node.where}: an input of {list(x.static_shape)}, weights of {list(array.shape)} and {group} groups give "
            f"the shape {[batch, array.shape[0], *counts]}, not {list(output.static_shape)}."
        )
    zeros = [int(zero) for zero in np.broadcast_to(found.zeros, (array.shape[0],))] if found.zeros.any() else []
    return moves.attributes() | {"group": group, "weights_zero": zeros}
