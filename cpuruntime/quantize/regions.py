"""Which values are stored in 8 bits between layers: those that layers read, and those of chains between them."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from cpuruntime.quantize.editor import Editor, attribute
from cpuruntime.quantize.form import Layer

_MOVERS = {"DepthToSpace", "Flatten", "Gather", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
           "Unsqueeze"}  # fmt: skip
"""Operators whose results are some of their first input's values."""
_ARITHMETIC = {"Add", "AveragePool", "Concat", "GlobalAveragePool", "HardSwish", "LeakyRelu", "Mul", "Resize",
               "Sigmoid"}  # fmt: skip
_ALL_INPUTS = {"Add", "Mul", "Concat"}
_LIMITS = {"Relu", "Clip"}
"""What the range of 8 bits does by itself, behind a layer."""


class Regions:
    """For the layers in `chosen`, by name: which nodes are `inside`, and which values have a scale.

    Attributes:
        inside: the names of nodes that read quantised values only, and whose results are quantised.
        values: the quantised values, in the order of the nodes that make them.
        together: for each of them the value whose scale it shares, perhaps itself.
    """

    def __init__(self, editor: Editor, layers: Collection[Layer], chosen: Collection[str]) -> None:
        self._editor = editor
        self._layers = {layer.name: layer for layer in layers if layer.name in chosen}
        self._after = {layer.after.name for layer in self._layers.values() if layer.after is not None}
        nodes = list(editor.graph.node)
        self.inside = set(self._layers)
        self.inside |= {node.name for node in nodes if node.op_type in _MOVERS | _ARITHMETIC and self._may(node)}
        while True:
            gone = {node.name for node in nodes if node.name in self.inside and not self._stays(node)}
            if not gone:
                break
            self.inside -= gone
        read = {name for node in nodes if node.name in self.inside for name in self.data(node)}
        ordered = [value.name for value in editor.graph.input]
        ordered += [name for node in nodes for name in node.output]
        self.values = [name for name in ordered if name in read]
        self.together = self._together(nodes)

    def data(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node inside that are quantised."""
        if node.name in self._layers:
            return list(self._layers[node.name].inputs)
        names = node.input if node.op_type in _ALL_INPUTS else node.input[:1]
        return list(dict.fromkeys(names))

    def _may(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Resize" and attribute(node, "mode", b"nearest") not in (b"nearest", b"linear"):
            return False
        return not any(name in self._editor.arrays for name in self.data(node))

    def _stays(self, node: onnx.NodeProto) -> bool:
        """Whether a node is inside still. Between layers all readers are, too, and arithmetic starts from layers."""
        if node.name in self._layers:
            return True
        if node.op_type in _MOVERS:
            return all(self._read_inside(name, every=True) for name in node.output)
        starts = all(self._from_layer(name) for name in self.data(node))
        return starts and self._read_inside(node.output[0], every=False)

    def _read_inside(self, name: str, every: bool) -> bool:
        readers = self._editor.readers.get(name, [])
        found = [self._reads(reader, name) for reader in readers]
        return bool(found) and name not in self._editor.outputs and (all(found) if every else any(found))

    def _reads(self, reader: onnx.NodeProto, name: str) -> bool:
        if reader.name in self.inside:
            return name in self.data(reader)
        return reader.op_type in _LIMITS and self._read_inside(reader.output[0], every=False)

    def _from_layer(self, name: str) -> bool:
        source = self._editor.producers.get(name)
        if source is None:
            return False
        if source.name in self.inside:
            return True
        if source.op_type in _LIMITS:
            return self._from_layer(source.input[0])
        return source.name in self._after

    def _together(self, nodes: list[onnx.NodeProto]) -> dict[str, str]:
        """Results of movers share the scale of what they move."""
        shared = {name: name for name in self.values}
        for node in nodes:
            if node.name in self.inside and node.op_type in _MOVERS:
                source = shared[node.input[0]]
                shared.update({name: source for name in node.output if name in shared})
        return shared
