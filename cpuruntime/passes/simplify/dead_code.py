"""Removes nodes whose results are not read."""

from __future__ import annotations

from cpuruntime.graph import Graph, Value


def run(graph: Graph) -> bool:
    """Remove every node that contributes to no output of the graph."""
    live: set[Value] = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if live.isdisjoint(node.outputs):
            continue
        nodes.append(node)
        live.update(value for value in node.inputs if value is not None)
    changed = len(nodes) != len(graph.nodes)
    if changed:
        graph.nodes = nodes[::-1]
    return changed
