"""Layer normalisation, with and without the mean."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node
from cpuruntime.ops.layer_norm import layer_norm
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering


@lowering("LayerNorm", "RmsNorm", domain="cpuruntime")
def lower_layer_norm(emitter: Emitter, node: Node) -> None:
    """Rows of the axes from `axis` on; scale and shift have an element for each element of a row."""
    axis = node.attributes["axis"]
    source, parameters = emitter.plain(node.require(0)), [v and emitter.plain(v).address for v in node.inputs[1:]]
    target = emitter.new_plain(node.outputs[0])
    if target.size:
        emitter.emit(
            layer_norm(node.op_type == "LayerNorm"), "plain", source=source.address, target=target.address,
            scale=parameters[0] or 0, shift=parameters[1] or 0, rows=prod(target.shape[:axis]),
            length=prod(target.shape[axis:]), epsilon=node.attributes["epsilon"],
        )  # fmt: skip
