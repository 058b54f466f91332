"""Writes down the attributes that a model leaves to their defaults."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

from cpuruntime.graph import Graph


def run(graph: Graph) -> bool:
    """Give every ONNX node each attribute for which its operator set states a default."""
    changed = False
    for node in graph.nodes:
        if node.domain == "":
            for name, value in defaults(node.op_type, node.version).items():
                if name not in node.attributes:
                    node.attributes[name] = value.copy() if isinstance(value, list) else value
                    changed = True
    return changed


@cache
def defaults(op_type: str, version: int) -> dict[str, Any]:
    """The attributes of an ONNX operator that have a default, and that; lists are shared."""
    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return {}
    found = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            found[name] = [_decoded(entry) for entry in value] if isinstance(value, list) else _decoded(value)
    return found


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
