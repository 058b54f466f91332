"""ByteTable: a function of one byte."""

from __future__ import annotations

from cpuruntime.graph import Node
from cpuruntime.ops.byte_table import byte_table
from cpuruntime.program.plan.elementwise_steps import blocked_shape, blocked_walk, emit_nest, plain_walk
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import Layout, lowering


@lowering("ByteTable", domain="cpuruntime", layout=Layout.FOLLOW, operands=1)
def lower_byte_table(emitter: Emitter, node: Node) -> None:
    """One look-up for each byte."""
    x, output = node.require(0), node.outputs[0]
    if emitter.is_blocked(output):
        target, source = emitter.new_blocked(output), blocked_walk(emitter.blocked(x))
        shape, place, layout = blocked_shape(target), blocked_walk(target), "blocked"
    else:
        plain = emitter.new_plain(output)
        shape, layout = plain.shape, "plain"
        source, place = plain_walk(emitter.plain(x), shape), plain_walk(plain, shape)
    table = emitter.constant(node.require(1).data), (0,) * len(shape)
    emit_nest(emitter, byte_table, layout, shape, place, [source, table])
