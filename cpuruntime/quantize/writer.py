"""Writes a quantised model: pairs of QuantizeLinear and DequantizeLinear around what is computed with 8 bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from cpuruntime.quantize.calibration import Measured
from cpuruntime.quantize.editor import Editor, copied
from cpuruntime.quantize.form import Layer, layers
from cpuruntime.quantize.histogram import Range
from cpuruntime.quantize.regions import Regions
from cpuruntime.quantize.weights import Weight, quantised_weight

_PROBABILITIES = Range(0.0, 1.0, "of the operator", 0.0)
_MOST_WIDENED = 2.0


def ranges_of(regions: Regions, editor: Editor, measured: Measured, known: Mapping[str, Range]) -> dict[str, Range]:
    """The range of each quantised value of the regions; `known` holds those of values that were scaled."""
    own = {}
    for name in regions.values:
        source = editor.producers.get(name)
        is_sigmoid = source is not None and source.op_type == "Sigmoid"
        own[name] = known.get(name) or (_PROBABILITIES if is_sigmoid else measured.histograms[name].range())
    shared = dict(regions.together)
    for node in editor.graph.node:
        if node.op_type != "Concat" or node.name not in regions.inside or node.output[0] not in shared:
            continue
        roots = {shared[name] for name in (*node.input, node.output[0])}
        widths = [own[root].high - own[root].low for root in roots]
        if max(widths) <= _MOST_WIDENED * min(widths):
            target = shared[node.output[0]]
            own[target] = joined([own[root] for root in sorted(roots)])
            shared = {name: target if root in roots else root for name, root in shared.items()}
    return {name: own[shared[name]] for name in regions.values}


def joined(ranges: Sequence[Range]) -> Range:
    """A range that holds all of these."""
    low, high = min(one.low for one in ranges), max(one.high for one in ranges)
    return Range(low, high, "of a Concat", max(one.error for one in ranges))


class Writer:
    """Writes models from one that is prepared and equalised, each with other layers quantised."""

    def __init__(self, model: onnx.ModelProto, measured: Measured, known: Mapping[str, Range]) -> None:
        self.model, self.measured, self.known = model, measured, known
        self.editor = Editor(copied(model))
        self.layers = layers(self.editor)
        self.all = self.ranges([layer.name for layer in self.layers])
        self.weights: dict[str, Weight] = {}
        for layer in self.layers:
            if layer.weight:
                scale = self.all[layer.inputs[0]].scale
                channels = measured.channels.get(layer.inputs[0])
                self.weights[layer.name] = quantised_weight(self.editor, layer, scale, channels)

    def ranges(self, chosen: Collection[str]) -> dict[str, Range]:
        """The range of each value that is quantised when these layers are."""
        regions = Regions(self.editor, self.layers, chosen)
        return ranges_of(regions, self.editor, self.measured, self.known)

    def write(self, chosen: Collection[str]) -> onnx.ModelProto:
        """The model with these layers quantised."""
        editor = Editor(copied(self.model))
        found = layers(editor)
        regions = Regions(editor, found, chosen)
        by_name = {layer.name: layer for layer in found if layer.name in chosen}
        nodes: list[onnx.NodeProto] = []
        for value in editor.graph.input:
            nodes += pair(editor, value.name, self.all, regions.values)
        for node in editor.graph.node:
            if node.name in regions.inside:
                quantised = set(regions.data(node))
                names = [f"{name}/dequantised" if name in quantised else name for name in node.input]
                if node.name in by_name:
                    nodes += self._constants(editor, by_name[node.name], names)
                node.input[:] = names
            nodes.append(node)
            for name in node.output:
                nodes += pair(editor, name, self.all, regions.values)
        editor.replace(nodes)
        version = max(entry.version for entry in editor.model.opset_import if entry.domain in ("", "ai.onnx"))
        editor.model.ir_version = max(editor.model.ir_version, helper.find_min_ir_version_for(
            [helper.make_opsetid("", version)], ignore_unknown=True))  # fmt: skip
        return editor.finish()

    def _constants(self, editor: Editor, layer: Layer, names: list[str]) -> list[onnx.NodeProto]:
        """The nodes that make a layer's weight and bias; puts their results into `names`."""
        if not layer.weight:
            return []
        weight = self.weights[layer.name]
        name = f"{layer.name}/weight"
        scales = editor.add(f"{name}/scale", weight.scales)
        zeros = editor.add(f"{name}/zero_point", np.zeros(len(weight.scales), np.int8))
        inputs = [editor.add(f"{name}/quantised", weight.values), scales, zeros]
        names[1] = f"{name}/dequantised"
        nodes = [helper.make_node("DequantizeLinear", inputs, [names[1]], names[1], axis=weight.axis)]
        if weight.bias is None:
            return nodes
        if layer.after is not None:
            index = next(i for i, one in enumerate(layer.after.input) if one in editor.arrays)
            layer.after.input[index] = editor.add(f"{layer.name}/bias", weight.bias)
            return nodes
        name = f"{layer.name}/bias"
        integers, factors = self._bias(layer)
        inputs = [editor.add(f"{name}/quantised", integers), editor.add(f"{name}/scale", factors)]
        names[2:] = [f"{name}/dequantised"]
        return [*nodes, helper.make_node("DequantizeLinear", inputs, names[2:], names[2], axis=0)]

    def bias(self, layer: Layer) -> np.ndarray:
        """The bias in the layer's node as the quantised model has it, in float32."""
        integers, factors = self._bias(layer)
        return integers.astype(np.float32) * factors

    def _bias(self, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
        weight = self.weights[layer.name]
        assert weight.bias is not None
        factors = (np.float32(self.all[layer.inputs[0]].scale) * weight.scales).astype(np.float32)
        integers = np.clip(np.rint(weight.bias.astype(np.float64) / factors), -(2**31), 2**31 - 1)
        return integers.astype(np.int32), factors


def pair(editor: Editor, name: str, ranges: Mapping[str, Range], wanted: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that quantise a value and bring it back, if it is among those wanted."""
    if name not in wanted:
        return []
    scale = editor.add(f"{name}/scale", np.array(ranges[name].scale, np.float32))
    zero = editor.add(f"{name}/zero_point", np.array(ranges[name].zero_point, np.uint8))
    there, back = f"{name}/quantised", f"{name}/dequantised"
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [there], there),
        helper.make_node("DequantizeLinear", [there, scale, zero], [back], back),
    ]
