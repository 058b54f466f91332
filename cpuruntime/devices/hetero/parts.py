"""A graph cut into parts, each a graph for one device, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Mapping

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.records import record


@record
class Part:
    """A graph for `device`, and the values of the whole graph that are its inputs and outputs, in its order.

    `first` is the index of its first node in the whole graph.
    """

    device: str
    first: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    graph: Graph


def split(graph: Graph, devices: Mapping[str, str]) -> list[Part]:
    """The parts of a graph for the device of each node, by name.

    The level of a node is the most changes of device on a way to it. The nodes of one level and device are a part, so a
    way that leaves a part never comes back. Constants are in every part that reads them.
    """
    levels: dict[Node, int] = {}
    groups: dict[tuple[int, str], list[Node]] = {}
    for node in graph.nodes:
        device, level = devices[node.name], 0
        for value in node.inputs:
            if value is not None and value.constant is None and value.producer is not None:
                before = value.producer
                level = max(level, levels[before] + (devices[before.name] != device))
        levels[node] = level
        groups.setdefault((level, device), []).append(node)
    order = {node: index for index, node in enumerate(graph.nodes)}
    return [
        _part(graph, device, number, nodes, order[nodes[0]])
        for number, ((_, device), nodes) in enumerate(sorted(groups.items(), key=lambda item: item[0][0]))
    ]


def _part(graph: Graph, device: str, number: int, nodes: list[Node], first: int) -> Part:
    own = set(nodes)
    read = dict.fromkeys(v for node in nodes for v in node.inputs if v is not None and v.constant is None)
    inputs = tuple(value for value in read if value.producer not in own)
    elsewhere = {v for node in graph.nodes if node not in own for v in node.inputs} | {*graph.outputs}
    made = [value for node in nodes for value in node.outputs]
    outputs = tuple(value for value in made if value in elsewhere and value.constant is None)
    cut = Graph(f"{graph.name}, part {number}", inputs, outputs, nodes, graph.opsets).clone()
    names = {value.name for value in inputs}
    cut.input_bounds = {name: bounds for name, bounds in graph.input_bounds.items() if name in names}
    return Part(device, first, inputs, outputs, cut)
