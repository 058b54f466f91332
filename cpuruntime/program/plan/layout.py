"""Which values are blocked, how wide their halos are, and which are written straight into a concatenation.

One walk over the graph decides. Convolutions and pools are blocked; elementwise operators follow their inputs; the
rest is plain. The planner places conversions where a node reads a value in another layout than the one chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.program.plan.lowering import Layout, find

if TYPE_CHECKING:
    from cpuruntime.program.plan.planner import Planner


@dataclass
class LayoutPlan:
    """The decisions.

    `slices` maps a value to the one it is written into and its first channel there: a concatenation, or its staging
    when the parts do not fall on whole blocks. A staging holds the parts one after the other, each in whole blocks.
    """

    blocked: set[Value] = field(default_factory=set)
    halos: dict[Value, tuple[int, int]] = field(default_factory=dict)
    slices: dict[Value, tuple[Value, int]] = field(default_factory=dict)
    stagings: dict[Value, Value] = field(default_factory=dict)

    def root(self, value: Value) -> tuple[Value, int]:
        """The value whose storage holds `value`, and the first channel of `value` in it."""
        channel = 0
        while value in self.slices:
            value, offset = self.slices[value]
            channel += offset
        return value, channel


def choose_layouts(graph: Graph, planner: Planner) -> LayoutPlan:
    """The layouts of all values of a graph of static shapes; `planner` chooses the methods that decide about halos."""
    plan = LayoutPlan()
    for node in graph.nodes:
        found = find(node)
        if isinstance(found, str):
            continue
        if found.layout is Layout.BLOCKED or (
            found.layout is Layout.FOLLOW and _follows(node, plan, found.operands) and found.follows(node)
        ):
            plan.blocked.update(v for v in node.outputs if is_image(v))
    for node in graph.nodes:
        _choose_slices(node, plan)
    for node in graph.nodes:
        found = find(node)
        if not isinstance(found, str) and found.halo and node.inputs[0] is not None:
            root, _ = plan.root(node.inputs[0])
            left, right = found.halo(node, planner)
            wide = plan.halos.get(root, (0, 0))
            plan.halos[root] = (max(left, wide[0]), max(right, wide[1]))
    return plan


def is_image(value: Value) -> bool:
    """Whether the value can be blocked: float32 [N, C, W] or [N, C, H, W]."""
    return value.element_type == Type.f32 and value.shape is not None and len(value.shape) in (3, 4)


def _follows(node: Node, plan: LayoutPlan, operands: int | None) -> bool:
    """Whether a node can work on blocked views: an input is blocked, and the others broadcast within images."""
    output = node.outputs[0]
    if not is_image(output) or not any(v in plan.blocked for v in node.inputs):
        return False
    return all(v is None or fits_blocked(v, output) for v in node.inputs[:operands])


def fits_blocked(value: Value, output: Value) -> bool:
    """Whether `value` can be an operand of a blocked result: a scalar, or an image of the same rank."""
    if value.element_type != Type.f32 or value.shape is None:
        return False
    scalar = all(extent == 1 for extent in value.shape)
    return scalar or len(value.shape) == len(output.static_shape)


def _choose_slices(node: Node, plan: LayoutPlan) -> None:
    """Lets the inputs of a blocked concatenation be written in place, or to its staging."""
    output = node.outputs[0]
    if node.op_type != "Concat" or output not in plan.blocked:
        return
    values = [v for v in node.inputs if v is not None]
    whole = output
    if any(v.static_shape[1] % LANES for v in values[:-1]):
        batch, _, *spatial = output.static_shape
        padded = sum(whole_blocks(v) for v in values)
        whole = plan.stagings[output] = Value(f"{output.name}/staging", Type.f32, (batch, padded, *spatial))
        plan.blocked.add(whole)
    channel = 0
    for value in values:
        produced = value.producer is not None and value.constant is None
        if value in plan.blocked and value not in plan.slices and produced:
            plan.slices[value] = (whole, channel)
        channel += whole_blocks(value)


def whole_blocks(value: Value) -> int:
    """The channels of an image, counting the unused lanes of the last block."""
    return -(-value.static_shape[1] // LANES) * LANES
