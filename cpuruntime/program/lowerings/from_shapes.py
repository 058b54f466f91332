"""Tensors that follow from shapes alone: ranges, and tensors of one repeated element."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.ops.movement import fill
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import is_movable, lowering
from cpuruntime.program.plan.storage import Plain


def _check_range(node: Node) -> str | None:
    if any(node.require(index).numbers is None for index in range(3)):
        return "Range has a kernel for bounds that are known"
    return None


@lowering("Range", check=_check_range)
def lower_range(emitter: Emitter, node: Node) -> None:
    """A table made with the plan, or when the sizes that it follows from are known."""
    output = node.outputs[0]
    dtype = output.element_type.to_dtype()
    start, _, step = ((node.require(index).numbers or [0])[0] for index in range(3))
    count = output.static_shape[0]
    address = emitter.table(lambda *n: (n[0] + n[1] * np.arange(n[2])).astype(dtype), start, step, count)
    emitter.alias_plain(output, Plain(address, (count,), dtype))


def _check_filled(node: Node) -> str | None:
    if not is_movable(node.outputs[0]):
        return f"ConstantOfShape has no kernel for {node.outputs[0].element_type.get_type_name()}"
    return None


@lowering("ConstantOfShape", check=_check_filled)
def lower_constant_of_shape(emitter: Emitter, node: Node) -> None:
    """The element repeated in whole words."""
    target = emitter.new_plain(node.outputs[0])
    element = node.attributes.get("value", np.zeros(1, np.float32)).reshape(1)
    emit_fill(emitter, target, element)


def emit_fill(emitter: Emitter, target: Plain, element: np.ndarray) -> None:
    """A step that repeats an element of 1, 2, 4 or 8 bytes; nothing for an empty target."""
    if target.size:
        pattern = int.from_bytes(element.tobytes() * (8 // target.dtype.itemsize), "little", signed=True)
        emitter.emit(fill, "plain", target=target.address, size=target.nbytes, pattern=pattern)

