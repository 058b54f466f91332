"""A graph as readable text."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.graph.graph import Graph, Node, Value

_FEW = 8


def print_graph(graph: Graph) -> str:
    """One line for each input, node and output."""
    lines = [f"graph {graph.name} (" + ", ".join(map(str, graph.inputs)) + ")"]
    lines += ["  " + print_node(node) for node in graph.nodes]
    lines.append("  return " + ", ".join(value.name for value in graph.outputs))
    return "\n".join(lines)


def print_node(node: Node) -> str:
    """`y: f32[1,8] = Conv 'c3' (x, w) {group: 1}`."""
    outputs = ", ".join(str(value) if value.name else "-" for value in node.outputs)
    inputs = ", ".join(_print_input(value) for value in node.inputs)
    op_type = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    text = f"{outputs} = {op_type} '{node.name}' ({inputs})"
    if node.attributes:
        text += " {" + ", ".join(f"{name}: {_print_data(data)}" for name, data in node.attributes.items()) + "}"
    return text


def _print_input(value: Value | None) -> str:
    if value is None:
        return "-"
    if value.constant is None:
        return value.name
    if value.constant.size <= _FEW:
        return f"{value.name}={_print_data(value.constant)}"
    return str(value)


def _print_data(data: Any) -> str:
    if isinstance(data, np.ndarray):
        if data.size <= _FEW:
            return str(data.tolist())
        return f"array {data.dtype}{list(data.shape)}"
    if isinstance(data, list) and len(data) > _FEW:
        return f"list of {len(data)}"
    if isinstance(data, (int, float, str, list)):
        return repr(data)
    return f"graph '{getattr(data, 'name', '')}'"
