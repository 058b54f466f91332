"""What follows from shapes and small constants is computed, before it is known which nodes have static shapes."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.graph import Graph, Node, Value, typical
from cpuruntime.operators.shape_inference import infer_shapes
from cpuruntime.passes.control_flow import branches, captures
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.simplify import dead_code
from cpuruntime.passes.simplify.constant_folding import Budget, constant_results

SMALL = 1024
"""Elements of a result that is computed here; larger ones are left to the pass constant_folding."""

MOST = 65536
"""Elements of the inputs of a node whose result has an unknown shape."""

_QUANTISED = {"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"}


def resolve(graph: Graph) -> Graph:
    """A copy with all types and shapes inferred, in which small results that are known are constants.

    Branches that are decided are taken. The other nodes stay as they were read, so that shapes can be inferred again.
    """
    graph = graph.clone()
    budget = Budget(graph)
    while True:
        known = infer_shapes(graph)
        with np.errstate(all="ignore"):
            changed = _fold(graph, known, budget)
        dead_code.run(graph)
        if not any([changed, branches.take_branches(graph), captures.run(graph)]):
            return graph


def _fold(graph: Graph, known: dict[Value, np.ndarray], budget: Budget) -> bool:
    editor = Editor(graph)
    for node in editor.nodes():
        results = [known[value] for value in node.outputs] if all(value in known for value in node.outputs) else None
        if results is None and node.op_type not in _QUANTISED and _is_small(node):
            results = constant_results(node, budget)
        if results is not None:
            editor.fold(node, results)
    return editor.finish()


def _is_small(node: Node) -> bool:
    outputs = [value for value in node.outputs if value.name]
    if all(value.is_static for value in outputs):
        return all(typical(prod(value.static_shape)) <= SMALL for value in outputs)
    return typical(sum(prod(v.static_shape) for v in node.inputs if v is not None and v.is_static)) <= MOST
