"""Det: one step for all matrices."""

from __future__ import annotations

from math import prod

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.ops.determinant import determinant
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering, only_float32
from cpuruntime.program.plan.storage import Address


@lowering("Det", check=only_float32)
def lower_determinant(emitter: Emitter, node: Node) -> None:
    """Determinants of the last two axes."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    *lead, rows, columns = source.shape
    if rows != columns:
        raise ModelError(f"{node.where}: matrices of {rows} by {columns} have no determinant; they must be square.")
    scratch = Address(emitter.scratch(rows * rows * 8 * emitter.threads))
    emitter.emit(
        determinant, "plain", source=source.address, target=target.address, scratch=scratch, batch=prod(lead), size=rows
    )
