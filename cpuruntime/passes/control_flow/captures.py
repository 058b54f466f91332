"""What subgraphs capture: constants stand in them, and what none of a node's subgraphs reads is not captured."""

from __future__ import annotations

from cpuruntime.graph import Graph, Node, Value


def run(graph: Graph) -> bool:
    """Shorten the captures of all nodes, also in subgraphs."""
    changes = [_shorten(node) for node in graph.nodes if node.bodies]
    return any(changes)


def _shorten(node: Node) -> bool:
    bodies = list(node.bodies.values())
    count, first = node.captures, len(node.inputs) - node.captures
    kept = []
    for place in range(count):
        outer = node.inputs[first + place]
        inners = [body.inputs[len(body.inputs) - count + place] for body in bodies]
        if outer is not None and outer.constant is not None:
            for body, inner in zip(bodies, inners):
                body.replace(inner, Value.of(inner.name, outer.data))
        elif any(_is_read(body, inner) for body, inner in zip(bodies, inners)):
            kept.append(place)
    if len(kept) < count:
        names = node.attributes["captures"]
        node.attributes["captures"] = [names[place] for place in kept]
        node.inputs = [*node.inputs[:first], *(node.inputs[first + place] for place in kept)]
        for body in bodies:
            own = len(body.inputs) - count
            body.inputs = [*body.inputs[:own], *(body.inputs[own + place] for place in kept)]
    deeper = [run(body) for body in bodies]
    return len(kept) < count or any(deeper)


def _is_read(body: Graph, value: Value) -> bool:
    return value in body.outputs or any(value in node.inputs for node in body.nodes)
