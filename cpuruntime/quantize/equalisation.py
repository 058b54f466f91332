"""Scales channels so that 8 bits hold them better, without a change of what the model computes.

Between a convolution and a depthwise one, whose weights have a scale for each channel, every channel is scaled to the
largest one's range (cross-layer equalisation). Behind a normalisation whose results only products with weights read,
a part of the activations' differences between channels moves to the weights (SmoothQuant).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from cpuruntime.quantize.calibration import Channels, Measured
from cpuruntime.quantize.editor import Editor, attribute
from cpuruntime.quantize.form import Layer
from cpuruntime.quantize.histogram import LEVELS, Range

_MOST = 64.0
"""The largest factor of a channel."""
_SHARES = (0.25, 0.5, 0.75)
_WORTH = 0.8
"""Channels are scaled where at most this share of the noise is left."""


def equalise(editor: Editor, layers: list[Layer], measured: Measured) -> dict[str, Range]:
    """Changes the model's weights, and `measured` to be that of the model now.

    Returns the ranges of the values whose channels were scaled.
    """
    by_name = {layer.name: layer for layer in layers}
    ranges: dict[str, Range] = {}
    for layer in layers:
        if layer.is_convolution and _is_depthwise(editor, layer):
            ranges |= _equalise_depthwise(editor, layer, by_name, measured)
    for name in dict.fromkeys(layer.inputs[0] for layer in layers if layer.weight and not layer.is_convolution):
        ranges |= _smooth(editor, name, by_name, measured)
    return ranges


def _is_depthwise(editor: Editor, layer: Layer) -> bool:
    weight = editor.arrays[layer.weight]
    return weight.shape[1] == 1 and attribute(layer.node, "group", 1) == weight.shape[0] > 1


def _equalise_depthwise(
    editor: Editor, layer: Layer, layers: Mapping[str, Layer], measured: Measured
) -> dict[str, Range]:
    name = layer.inputs[0]
    source, scaled = editor.producers.get(name), [name]
    if source is not None and source.op_type == "Relu" and editor.only_reader(source.input[0]) is source:
        scaled.append(source.input[0])
        source = editor.producers.get(source.input[0])
    before = layers.get(source.name) if source is not None else None
    channels = measured.channels.get(name)
    if before is None or not before.is_convolution or channels is None or editor.only_reader(name) is not layer.node:
        return {}
    largest = float(channels.magnitude.max())
    if not largest > 0:
        return {}
    factors = np.clip(channels.magnitude / largest, 1 / _MOST, 1.0)
    squares = (editor.arrays[layer.node.input[1]].reshape(len(factors), -1) ** 2).sum(axis=1)
    if (squares * factors**2).sum() > _WORTH * squares.sum():
        return {}
    _scale_weight(editor, before, 1 / factors, along_outputs=True)
    _scale_weight(editor, layer, factors, along_outputs=False)
    return {name: _scaled(measured, name, factors)}


def _smooth(editor: Editor, name: str, layers: Mapping[str, Layer], measured: Measured) -> dict[str, Range]:
    readers = [layers.get(node.name) for node in editor.readers[name]]
    channels = measured.channels.get(name)
    norm = _gain_and_shift(editor, name)
    if channels is None or norm is None or name in editor.outputs:
        return {}
    if any(reader is None or not reader.weight or reader.is_convolution for reader in readers):
        return {}
    weights = [_rows(editor, reader) for reader in readers if reader is not None]
    largest = np.maximum.reduce([np.abs(weight).max(axis=1) for weight in weights])
    ones = np.ones(len(largest))
    tried = [ones] + [_factors(channels.magnitude, largest, share) for share in _SHARES]
    factors = min(tried, key=lambda one: _noise(channels, weights, one))
    if factors is ones or _noise(channels, weights, factors) > _WORTH * _noise(channels, weights, ones):
        return {}
    for node, index in norm:
        scaled = editor.arrays[node.input[index]] / factors.astype(np.float32)
        node.input[index] = editor.add(f"{node.input[index]}/smoothed", scaled)
    for reader in readers:
        if reader is not None:
            _scale_weight(editor, reader, factors, along_outputs=False)
    return {name: _scaled(measured, name, factors)}


def _gain_and_shift(editor: Editor, name: str) -> list[tuple[onnx.NodeProto, int]] | None:
    """Where the constants of a normalisation stand that makes the value: of the node itself, or of Mul and Add."""
    node = editor.producers.get(name)
    if node is None:
        return None
    if node.op_type == "LayerNormalization" and all(one in editor.arrays for one in node.input[1:]):
        return [(node, index) for index in range(1, len(node.input))] if attribute(node, "axis", -1) == -1 else None
    if node.op_type != "Add":
        return None
    found: list[tuple[onnx.NodeProto, int]] = []
    for op_type in ("Add", "Mul"):
        index = next((i for i in (0, 1) if node.op_type == op_type and node.input[i] in editor.arrays), None)
        if index is None or editor.arrays[node.input[index]].ndim != 1:
            return None
        found.append((node, index))
        source = editor.producers.get(node.input[1 - index])
        if op_type == "Add" and (source is None or editor.only_reader(source.output[0]) is not node):
            return None
        node = source if source is not None else node
    return found


def _factors(activations: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    factors = np.maximum(activations, 1e-6) ** share / np.maximum(weights, 1e-6) ** (1 - share)
    return np.clip(factors / np.exp(np.log(factors).mean()), 1 / _MOST, _MOST)


def _noise(channels: Channels, weights: list[np.ndarray], factors: np.ndarray) -> float:
    """The expected square of the products' errors, both operands rounded, with channels divided by `factors`."""
    step = (channels.most / factors).max() - min((channels.least / factors).min(), 0)
    square = channels.mean_square / factors**2
    noise = 0.0
    for weight in weights:
        scaled = weight * factors[:, None]
        steps = np.abs(scaled).max(axis=0) / (LEVELS // 2)
        noise += (step / LEVELS) ** 2 * float((scaled**2).sum()) + float((steps**2).sum() * square.sum())
    return noise


def _rows(editor: Editor, layer: Layer) -> np.ndarray:
    """The weight of a product, an input channel in each row."""
    weight = editor.arrays[layer.node.input[1]].astype(np.float64)
    return weight if layer.axis else weight.T


def _scale_weight(editor: Editor, layer: Layer, factors: np.ndarray, along_outputs: bool) -> None:
    """Gives the layer's node a weight of its own, and along outputs also a bias, times factors."""
    weight = editor.arrays[layer.node.input[1]]
    axis = layer.axis if along_outputs or layer.is_convolution else 1 - layer.axis
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = (weight * factors.reshape(shape)).astype(np.float32)
    layer.node.input[1] = editor.add(f"{layer.name}/scaled_weight", scaled)
    if along_outputs and layer.bias:
        bias = (editor.arrays[layer.node.input[2]] * factors).astype(np.float32)
        layer.node.input[2] = editor.add(f"{layer.name}/scaled_bias", bias)


def _scaled(measured: Measured, name: str, factors: np.ndarray) -> Range:
    """The range of a value whose channels are divided by factors; its channels in `measured` are divided, too."""
    old = measured.channels[name]
    found = Channels(old.least / factors, old.most / factors, old.sums / factors, old.squares / factors**2, old.count)
    measured.channels[name] = found
    low, high = min(float(found.least.min()), 0.0), max(float(found.most.max()), 0.0)
    return Range(low, high, "min-max of channels", ((high - low) / LEVELS) ** 2 / 12)
