"""Convolutions and pools of volumes become those of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_internal, is_onnx

_LISTS = ("kernel_shape", "strides", "dilations")
SWAPPED = [0, 2, 1, 3, 4]  # depth before channels, and back


@sweep
def run(editor: Editor, node: Node) -> None:
    """A convolution takes the layers under its kernel as channels of one image for each layer of the result; a pool
    works along height and width, then along depth."""
    values = (*node.inputs[:1], *node.outputs)
    if any(value is None or not value.is_static or len(value.static_shape) != 5 for value in values):
        return
    with Writer(editor, node) as write:
        if is_internal(node, "Conv") and node.inputs[1].constant is not None:
            _convolution(write)
        elif is_onnx(node, "MaxPool", "AveragePool") and len(node.outputs) == 1:
            _pool(write)
        elif is_onnx(node, "GlobalAveragePool", "GlobalMaxPool"):
            batch, channels, depth, height, width = node.inputs[0].static_shape
            image = write.internal("Reshape", node.inputs[0], shape=(batch, channels, depth * height, width))
            write.internal("Reshape", write(node.op_type, image, shape=(batch, channels, 1, 1)), shape=values[1].shape)


def _across(a: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a window without its depth."""
    return {**a, **{name: a[name][1:] for name in _LISTS}, "pads": a["pads"][1:3] + a["pads"][4:]}


def _down(a: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a window with its depth, along rows of pixels."""
    return {**a, **{name: [a[name][0], 1] for name in _LISTS}, "pads": [a["pads"][0], 0, a["pads"][3], 0]}


def _convolution(write: Writer) -> None:
    node = write.node
    a, output = node.attributes, node.outputs[0].static_shape
    flat = a["kernel_shape"][1:] == a["strides"][1:] == [1, 1] and not any(a["pads"][1:3] + a["pads"][4:])
    if flat:
        _along_depth(write)
        return
    x = _layers(write)
    weights = node.inputs[1].constant.transpose(0, 2, 1, 3, 4)
    weights = weights.reshape(len(weights), -1, *weights.shape[3:])
    residual = node.inputs[3]
    if residual is not None:
        residual = _images(write, residual)
    shape = (output[0] * output[2], output[1], *output[3:])
    attributes = _across(a)
    inputs = [x, write.constant(weights, np.float32), node.inputs[2], residual]
    result = write.internal("Conv", *inputs, shape=shape, attributes=attributes)
    batch, channels, depth, *spatial = output
    result = write.internal("Reshape", result, shape=(batch, depth, channels, *spatial))
    write("Transpose", result, shape=output, perm=SWAPPED)


def _along_depth(write: Writer) -> None:
    """The window is one pixel high and wide, so that height and width can be one axis."""
    node = write.node
    a, output = node.attributes, node.outputs[0].static_shape

    def image(value: Value) -> Value:
        batch, channels, depth, height, width = value.static_shape
        return write.internal("Reshape", value, shape=(batch, channels, depth, height * width))

    weights = node.inputs[1].constant
    inputs = [
        image(node.inputs[0]), write.constant(weights.reshape(*weights.shape[:3], 1), np.float32), node.inputs[2],
        None if node.inputs[3] is None else image(node.inputs[3]),
    ]  # fmt: skip
    batch, channels, depth, height, width = output
    result = write.internal("Conv", *inputs, shape=(batch, channels, depth, height * width), attributes=_down(a))
    write.internal("Reshape", result, shape=output)


def _layers(write: Writer) -> Value:
    """An image for each layer of the result: its channels are the layers under the kernel, group by group."""
    node = write.node
    a, group, depth = node.attributes, node.attributes["group"], node.outputs[0].static_shape[2]
    batch, channels, layers, *spatial = node.inputs[0].static_shape
    count, stride, dilation = (a[name][0] for name in ("kernel_shape", "strides", "dilations"))
    x = write("Transpose", node.inputs[0], shape=(batch, layers, channels, *spatial), perm=SWAPPED)
    before, after = a["pads"][0], a["pads"][3]
    if before or after:
        layers += before + after
        pads = write.constant([0, before, 0, 0, 0, 0, after, 0, 0, 0])
        zero = write.constant(0, np.float32)
        x = write("Pad", x, pads, zero, shape=(batch, layers, channels, *spatial), mode="constant")
    parts = []
    for first in range(0, count * dilation, dilation):
        part = x
        if (first, stride, depth) != (0, 1, layers):
            bounds = [first], [first + (depth - 1) * stride + 1], [1], [stride]
            part = write("Slice", x, *map(write.constant, bounds), shape=(batch, depth, channels, *spatial))
        parts.append(write.internal("Reshape", part, shape=(batch, depth, group, channels // group, *spatial)))
    if count > 1:
        shape = (batch, depth, group, count * channels // group, *spatial)
        parts = [write("Concat", *parts, shape=shape, axis=3)]
    return write.internal("Reshape", parts[0], shape=(batch * depth, count * channels, *spatial))


def _images(write: Writer, value: Value) -> Value:
    """The layers of a volume as a batch of images."""
    batch, channels, depth, *spatial = value.static_shape
    value = write("Transpose", value, shape=(batch, depth, channels, *spatial), perm=SWAPPED)
    return write.internal("Reshape", value, shape=(batch * depth, channels, *spatial))


def _pool(write: Writer) -> None:
    node = write.node
    a = node.attributes
    batch, channels, layers, height, width = node.inputs[0].static_shape
    *_, depth, rows, columns = node.outputs[0].static_shape
    image = write.internal("Reshape", node.inputs[0], shape=(batch, channels * layers, height, width))
    image = write(node.op_type, image, shape=(batch, channels * layers, rows, columns), **_across(a))
    image = write.internal("Reshape", image, shape=(batch, channels, layers, rows * columns))
    image = write(node.op_type, image, shape=(batch, channels, depth, rows * columns), **_down(a))
    write.internal("Reshape", image, shape=node.outputs[0].static_shape)
