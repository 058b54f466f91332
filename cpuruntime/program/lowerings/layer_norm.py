"""Layer normalisation, with and without the mean."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node
from cpuruntime.ops.layer_norm import layer_norm
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.planner import Planner


@lowering("LayerNorm", "RmsNorm", domain="cpuruntime")
def lower_layer_norm(planner: Planner, node: Node) -> None:
    """Rows of the axes from `axis` on; scale and shift have an element for each element of a row."""
    x, scale, shift = node.inputs
    assert x is not None
    axis = node.attributes["axis"]
    source, parameters = planner.plain(x), [v and planner.plain(v).address for v in (scale, shift)]
    target = planner.new_plain(node.outputs[0])
    if target.size:
        planner.emit(
            layer_norm(node.op_type == "LayerNorm"), "plain", source=source.address, target=target.address,
            scale=parameters[0] or 0, shift=parameters[1] or 0, rows=prod(target.shape[:axis]),
            length=prod(target.shape[axis:]), epsilon=node.attributes["epsilon"],
        )  # fmt: skip
