"""Writes a graph as an ONNX model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.graph import Graph, Kind, Node, PartialShape, Value
from cpuruntime.version import __version__

_MOST_BYTES = 2**31 - 2**24
"""Of weights in one file: protobuf's limit, with room for the rest."""
_IR_VERSION = 10

Notes = Mapping[str, Mapping[str, Any]]
"""Notes about nodes by name, which become their metadata."""


def write(graph: Graph, path: str | PathLike[str], notes: Notes | None = None) -> None:
    """Write a graph to a file; weights beyond 2 GiB go to a file beside it, its name with `.data` behind it.

    Raises:
        UnsupportedError: the graph cannot be written as one ONNX model.
        OSError: the file cannot be written.
    """
    model, target = to_onnx(graph, notes), Path(fspath(path))
    large = sum(value.data.nbytes for value in graph.constants() if not value.data.dtype.hasobject) > _MOST_BYTES
    onnx.save(model, target, save_as_external_data=large, location=f"{target.name}.data" if large else None)


def to_onnx(graph: Graph, notes: Notes | None = None) -> onnx.ModelProto:
    """The ONNX model of a graph as it was read, whose passes did not run. Raises UnsupportedError as `write` does."""
    opsets = {**graph.opsets, **_versions(graph)}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    proto = _graph(graph, graph.inputs, notes or {})
    return helper.make_model(
        proto, opset_imports=imports, ir_version=_IR_VERSION, producer_name="cpuruntime", producer_version=__version__
    )


def _versions(graph: Graph) -> dict[str, int]:
    """The version of each domain that nodes are written in."""
    found: dict[str, int] = {}
    for node in _all(graph):
        if found.setdefault(node.domain, node.version) != node.version:
            raise UnsupportedError(
                f"{node.where} cannot be written: other nodes are of version {found[node.domain]} of its operator set."
            )
    return found


def _all(graph: Graph) -> Iterable[Node]:
    for node in graph.nodes:
        yield node
        for body in node.bodies.values():
            yield from _all(body)


def _graph(graph: Graph, inputs: Iterable[Value], notes: Notes, outer: Iterable[str] = ()) -> onnx.GraphProto:
    known = set(outer)
    weights = [numpy_helper.from_array(v.data, v.name) for v in graph.constants() if v.name not in known]
    nodes = [_node(node, notes) for node in graph.nodes]
    bounds, declared = graph.input_bounds, [*inputs]
    ports = [_port(value, bounds.get(value.name)) for value in declared]
    return helper.make_graph(nodes, graph.name or "graph", ports, [_port(v) for v in graph.outputs], weights)


def _port(value: Value, bounds: PartialShape | None = None) -> onnx.ValueInfoProto:
    if value.kind is not Kind.TENSOR:
        raise UnsupportedError(f"'{printable(value.name)}' is a {value.kind.value}, which is not written.")
    if value.element_type.is_dynamic():
        return onnx.ValueInfoProto(name=value.name)
    shape: Any = value.shape
    if bounds is not None and bounds.rank.is_static:
        shape = [extent.get_length() if extent.is_static else None for extent in bounds]
    named = None if shape is None else [f"{value.name}_{i}" if d is None else d for i, d in enumerate(shape)]
    return helper.make_tensor_value_info(value.name, value.element_type.to_onnx(), named)


def _node(node: Node, notes: Notes) -> onnx.NodeProto:
    captured = list(node.attributes.get("captures", ()))
    own = node.inputs[: len(node.inputs) - len(captured)]
    passed = [value.name if value is not None else "" for value in node.inputs[len(own) :]]
    if passed != captured:
        raise UnsupportedError(f"{node.where} cannot be written: its subgraphs read values that were renamed.")
    proto = helper.make_node(
        node.op_type,
        ["" if value is None else value.name for value in own],
        [value.name for value in node.outputs],
        name=node.name,
        domain=node.domain,
    )
    for name, data in node.attributes.items():
        if name != "captures":
            proto.attribute.append(_attribute(node, name, data, captured))
    for key, value in notes.get(node.name, {}).items():
        proto.metadata_props.add(key=str(key), value=str(getattr(value, "value", value)))
    return proto


def _attribute(node: Node, name: str, data: Any, captured: list[str]) -> onnx.AttributeProto:
    if isinstance(data, Graph):
        inputs = data.inputs[: len(data.inputs) - len(captured)]
        return helper.make_attribute(name, _graph(data, inputs, {}, captured))
    if isinstance(data, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(data, name))
    if isinstance(data, list) and data and isinstance(data[0], np.ndarray):
        return helper.make_attribute(name, [numpy_helper.from_array(one, name) for one in data])
    if isinstance(data, list) and not data:
        schema = defs.get_schema(node.op_type, node.version, node.domain)
        return helper.make_attribute(name, data, attr_type=schema.attributes[name].type.value)
    return helper.make_attribute(name, data)
