"""A model's message with its constants, producers and readers by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Editor:
    """The top graph of `model`, which it changes. Weights are arrays in `arrays` until `finish`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.outputs = {value.name for value in self.graph.output}
        self.index()

    def index(self) -> None:
        """Look for producers and readers again, after nodes changed."""
        self.producers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            self.producers.update(dict.fromkeys(node.output, node))
            for name in dict.fromkeys((*node.input, *_captured(node))):
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a value which is no output of the model."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs and name not in _captured(found[0]) else None

    def constant(self, node: onnx.NodeProto, index: int) -> np.ndarray | None:
        """The array of a node's input, where it is a constant."""
        return self.arrays.get(node.input[index]) if index < len(node.input) else None

    def add(self, name: str, array: np.ndarray) -> str:
        """A new constant; its name is made one that nothing has."""
        free, number = name, 0
        while free in self.arrays or free in self.producers:
            number += 1
            free = f"{name}_{number}"
        self.arrays[free] = array
        return free

    def replace(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Have these nodes, in this order."""
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        self.index()

    def finish(self) -> onnx.ModelProto:
        """The model with the constants that are read."""
        used = {name for node in self.graph.node for name in (*node.input, *_captured(node))} | self.outputs
        del self.graph.initializer[:]
        self.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in self.arrays.items() if name in used
        )
        return self.model


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Another message with the same content."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _captured(node: onnx.NodeProto) -> set[str]:
    """The names that a node's subgraphs may read from outside."""
    found: set[str] = set()
    for one in node.attribute:
        for graph in [one.g] if one.type == onnx.AttributeProto.GRAPH else one.graphs:
            found |= {value.name for value in graph.output}
            for inner in graph.node:
                found |= {*inner.input, *_captured(inner)}
    return found
