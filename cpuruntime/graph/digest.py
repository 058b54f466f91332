"""What a graph is by its content."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from cpuruntime.graph.graph import Graph, Value


def graph_digest(graph: Graph) -> str:
    """That of a graph: its structure, names, types and constants."""
    digest = hashlib.sha256()
    _add_graph(digest, graph, {})
    return digest.hexdigest()


def _add_graph(digest: Any, graph: Graph, numbers: dict[Value, int]) -> None:
    def of(value: Value | None) -> int:
        if value is None:
            return -1
        if value not in numbers:
            numbers[value] = len(numbers)
            _add(digest, value.name, value.element_type.get_type_name(), value.shape, value.kind.name, value.constant)
        return numbers[value]

    _add(digest, graph.name, sorted(graph.opsets.items()), {name: str(s) for name, s in graph.input_bounds.items()})
    _add(digest, [of(value) for value in graph.inputs], [of(value) for value in graph.defaults])
    for node in graph.nodes:
        read, made = [of(value) for value in node.inputs], [of(value) for value in node.outputs]
        _add(digest, node.op_type, node.name, node.domain, node.version, node.origins, read, made)
        for name, data in node.attributes.items():
            _add(digest, name)
            for each in data if isinstance(data, list) else [data]:
                if isinstance(each, Graph):
                    _add_graph(digest, each, numbers)
                else:
                    _add(digest, each)
    _add(digest, [of(value) for value in graph.outputs])


def _add(digest: Any, *data: Any) -> None:
    for each in data:
        if isinstance(each, np.ndarray):
            digest.update(f"{each.dtype} {each.shape};".encode())
            if each.dtype.hasobject:
                digest.update(repr(each.tolist()).encode())
            else:
                digest.update(np.ascontiguousarray(each).reshape(-1).view(np.uint8))
        else:
            digest.update(f"{type(each).__name__} {each!r};".encode())
