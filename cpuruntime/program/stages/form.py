"""The form of a graph: graphs of one form are planned alike, whatever their values and inputs are called."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np

from cpuruntime.graph import Graph, Node, Value

SMALL = 16 * 1024
"""Bytes of a constant that is compared by content; a larger one is the same only if it is the same array."""


def form_of(graph: Graph, varying: Collection[int]) -> Hashable:
    """A key that graphs share if they have the same nodes, types, known shapes and constants, and inputs `varying`.

    Of two graphs one has to exist as long as the key is used: it has the identities of arrays.
    """
    return _Numbering().graph(graph), tuple(sorted(varying))


class _Numbering:
    """Values are numbers in the order in which they appear."""

    def __init__(self) -> None:
        self._numbers: dict[Value, int] = {}

    def graph(self, graph: Graph) -> Hashable:
        inputs = tuple(map(self._made, graph.inputs))
        nodes = tuple(map(self._node, graph.nodes))
        return inputs, nodes, tuple(map(self._read, graph.outputs)), tuple(graph.opsets.items())

    def _node(self, node: Node) -> Hashable:
        attributes = tuple((name, _data(data)) for name, data in node.attributes.items())
        read = tuple(map(self._read, node.inputs))
        made = tuple(map(self._made, node.outputs))
        return node.op_type, node.domain, node.version, node.name, attributes, read, made

    def _made(self, value: Value) -> Hashable:
        self._numbers[value] = len(self._numbers)
        sizes = None if value.sizes is None else tuple(value.sizes.reshape(-1).tolist())
        return bool(value.name), value.element_type, value.kind, value.shape, sizes

    def _read(self, value: Value | None) -> Hashable:
        if value is None or value.constant is None:
            return None if value is None else self._numbers[value]
        return value.name, _array(value.constant)


def _data(data: Any) -> Hashable:
    """What an attribute holds."""
    if isinstance(data, Graph):
        return _Numbering().graph(data)
    if isinstance(data, list):
        return tuple(map(_data, data))
    if isinstance(data, np.ndarray):
        return _array(data)
    return type(data), repr(data) if isinstance(data, (int, float, str, bytes)) else id(data)


def _array(array: np.ndarray) -> Hashable:
    content = array.tobytes() if array.nbytes <= SMALL and not array.dtype.hasobject else id(array)
    return array.dtype, array.shape, content
