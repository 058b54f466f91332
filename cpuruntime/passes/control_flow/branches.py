"""If whose condition is constant -> the nodes of the branch that it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Graph, Node, Value
from cpuruntime.operators.shape_inference import infer_shapes
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.simplify import constant_folding


def run(graph: Graph) -> bool:
    """Replace each If that is decided, and compute what became constant by that."""
    if not any(node.op_type == "If" for node in graph.nodes) or not take_branches(graph):
        return False
    infer_shapes(graph)
    constant_folding.run(graph)
    run(graph)
    return True


@sweep
def take_branches(editor: Editor, node: Node) -> None:
    """Replace each If that is decided; types and shapes of what follows are not inferred again."""
    if node.op_type != "If" or node.domain or node.require(0).constant is None:
        return
    condition = node.require(0).data
    if condition.size != 1:
        shape = list(condition.shape)
        raise ModelError(f"{node.where}: the condition has the shape {shape}; it must have one element.")
    body = node.attributes["then_branch" if np.any(condition) else "else_branch"]
    editor.replace(node, *inlined(node, body, node.inputs[1:], node.name))


def inlined(node: Node, body: Graph, arguments: Sequence[Value | None], prefix: str) -> list[Node]:
    """Copies of the nodes of a body, which read `arguments` for its inputs and make the node's outputs.

    Names of what they make begin with `prefix`.
    """
    body = body.clone()
    for value in body.values():
        if value.producer is not None:
            value.name = f"{prefix}/{value.name}" if value.name else ""
    for inner, outer in zip(body.inputs, arguments, strict=True):
        body.replace(inner, outer)
    own, made, extra = set(body.nodes), {}, []
    for output, inner in zip(node.outputs, list(body.outputs)):
        maker = inner.producer
        if inner in made or maker not in own:
            source = made.get(inner, inner)
            extra.append(Node("Identity", f"{prefix}/{output.name}", [source], [output], {}, "", max(node.version, 16)))
            continue
        made[inner] = output
        maker.outputs[maker.outputs.index(inner)] = output
        output.producer = maker
        output.element_type, output.shape, output.kind = inner.element_type, inner.shape, inner.kind
        body.replace(inner, output)
    return [*body.nodes, *extra]
