"""ReverseSequence over the first two axes."""

from __future__ import annotations

from math import prod

from cpuruntime.errors import ModelError, printable
from cpuruntime.graph import Node
from cpuruntime.ops.reverse_sequence import reverse_sequence
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import is_movable, lowering


def _check(node: Node) -> str | None:
    if not is_movable(node.require(0)):
        return f"ReverseSequence has no kernel for {node.require(0).element_type.get_type_name()}"
    return None


@lowering("ReverseSequence", check=_check)
def lower_reverse_sequence(emitter: Emitter, node: Node) -> None:
    """Slices of one step of one sequence."""
    source, lengths = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    time, batch = node.attributes.get("time_axis", 0), node.attributes.get("batch_axis", 1)
    if {time, batch} != {0, 1} or len(source.shape) < 2 or lengths.shape != (source.shape[batch],):
        raise ModelError(
            f"{node.where}: time_axis {time} and batch_axis {batch} must be 0 and 1, and the input of shape "
            f"{list(source.shape)} have a length for each sequence, not {list(lengths.shape)}."
        )
    target, name = emitter.new_plain(node.outputs[0]), printable(node.require(1).name)
    message = f"{node.where}: a length in '{name}' is negative or above the number of steps, "
    emitter.emit(
        reverse_sequence, "plain", source=source.address, target=target.address, lengths=lengths.address,
        fault=emitter.fault(message, source.shape[time], "."), steps=source.shape[time], batch=source.shape[batch],
        step_stride=source.strides[time], batch_stride=source.strides[batch],
        inner_bytes=prod(source.shape[2:]) * source.dtype.itemsize,
    )  # fmt: skip
