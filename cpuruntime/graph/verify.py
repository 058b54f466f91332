"""Checks the rules that every pass must keep."""

from __future__ import annotations

from cpuruntime.errors import InternalError, listed, printable
from cpuruntime.graph.graph import Graph, Node, Value


def verify(graph: Graph) -> None:
    """Raise InternalError when the graph breaks a rule.

    Rules: a value is made by one node, named as its producer, or is a graph input or a constant; nodes are in
    topological order; what a node reads and the graph returns exists; a constant's array has its type and shape;
    graph inputs have names of their own. They hold in subgraphs, too, which end with the inputs that the node captures.
    """
    known: set[Value] = set()
    for value in graph.inputs:
        if value.producer is not None or value.constant is not None:
            raise InternalError(f"graph input {value} has a producer or data.")
        known.add(value)
    if len({value.name for value in graph.inputs}) != len(graph.inputs):
        raise InternalError(f"two inputs of the graph share a name: {listed(value.name for value in graph.inputs)}.")
    for node in graph.nodes:
        for read in node.inputs:
            if read is not None:
                _check_read(read, node, known)
        for output in node.outputs:
            _check_made(output, node, known)
            known.add(output)
        for name, body in node.bodies.items():
            if len(body.inputs) < node.captures:
                raise InternalError(
                    f"{node.where}: '{printable(name)}' has {len(body.inputs)} inputs, {node.captures} captured."
                )
            verify(body)
    for output in graph.outputs:
        _check_read(output, None, known)


def _check_read(value: Value, node: Node | None, known: set[Value]) -> None:
    """Check a value that a node reads, or, without one, that the graph returns."""
    if value in known:
        return
    if value.constant is None and value.sizes is not None and value.producer is None:
        known.add(value)
        return
    if value.constant is None:
        raise InternalError(f"{_who(node)} {value}, which no earlier node makes and which is no input or constant.")
    array = value.constant
    if value.producer is not None:
        raise InternalError(f"{_who(node)} {value}, a constant with a producer.")
    if value.shape != array.shape or value.element_type != array.dtype:
        raise InternalError(f"{_who(node)} {value}, whose data are {array.dtype}{list(array.shape)}.")
    known.add(value)


def _who(node: Node | None) -> str:
    return "the graph returns" if node is None else f"{node.where} reads"


def _check_made(value: Value, node: Node, known: set[Value]) -> None:
    if value in known:
        raise InternalError(f"{node.where} makes {value}, which exists already.")
    if value.producer is not node:
        raise InternalError(f"{node.where} makes {value}, whose producer is {value.producer!r}.")
    if value.constant is not None:
        raise InternalError(f"{node.where} makes {value}, which is a constant.")
