"""The first step of planning: the methods of all nodes, then the layouts of all values.

Methods may be measured; layouts follow from them. Convolutions and pools are blocked, elementwise operators follow
their inputs, the rest is plain. The planner converts a value that a node reads in another layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpuruntime.graph import Graph, Node
from cpuruntime.program.plan.candidate import Chosen, estimated
from cpuruntime.program.plan.emitter import Chooser
from cpuruntime.program.plan.layout import LayoutPlan, fits_blocked, is_image
from cpuruntime.program.plan.lowering import Layout, find_lowering


def choose_methods(graph: Graph, exact: bool, tuner: Chooser | None) -> dict[Node, Chosen[Any]]:
    """The method of every node that can be computed by several, each chosen once; by the estimate without a tuner."""
    found: dict[Node, Chosen[Any]] = {}
    for node in graph.nodes:
        lowering = find_lowering(node)
        if isinstance(lowering, str) or lowering.methods is None:
            continue
        methods = lowering.methods(node, exact)
        if tuner is None or methods.emit is None:
            found[node] = estimated(methods.candidates)
        else:
            found[node] = tuner.choose_method(node, methods.query, methods.candidates, methods.emit)
    return found


def choose_layouts(graph: Graph, methods: Mapping[Node, Chosen[Any]]) -> LayoutPlan:
    """The layouts of all values of a graph of static shapes whose nodes are computed by `methods`."""
    plan = LayoutPlan()
    lowerings = {node: found for node in graph.nodes if not isinstance(found := find_lowering(node), str)}
    for node, found in lowerings.items():
        if found.layout is Layout.BLOCKED or (
            found.layout is Layout.FOLLOW and _follows(node, plan, found.operands) and found.follows(node)
        ):
            plan.blocked.update(v for v in node.outputs if is_image(v))
    for node, found in lowerings.items():
        if found.join is not None and node.outputs[0] in plan.blocked:
            found.join(node, plan)
    uses = graph.uses()
    for value in plan.gathers.keys() - set(graph.outputs):
        read = [reader.outputs[0] for reader, _ in uses.get(value, ())]
        if read and all(output in plan.gathers and plan.gathers[output][0] is value for output in read):
            plan.passed.add(value)
    for node, found in lowerings.items():
        if found.halo is not None and node.inputs[0] is not None:
            root, _ = plan.root(node.inputs[0])
            left, right = found.halo(node, methods[node].choice if node in methods else None)
            wide = plan.halos.get(root, (0, 0))
            plan.halos[root] = (max(left, wide[0]), max(right, wide[1]))
    return plan


def _follows(node: Node, plan: LayoutPlan, operands: int | None) -> bool:
    """Whether a node can work on blocked views: an input is blocked, and the others broadcast within images."""
    output = node.outputs[0]
    if not is_image(output) or not any(v in plan.blocked for v in node.inputs):
        return False
    return all(v is None or fits_blocked(v, output) for v in node.inputs[:operands])
