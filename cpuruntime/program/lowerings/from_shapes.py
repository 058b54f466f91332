"""Tensors that follow from shapes alone: ranges, and tensors of one repeated element."""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.typed import SIGNED
from cpuruntime.graph import Node
from cpuruntime.ops.movement import count_up, fill
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import dtype_name, is_movable, lowering
from cpuruntime.program.plan.storage import Plain


def _check_range(node: Node) -> str | None:
    name = dtype_name(node.outputs[0])
    if name not in SIGNED:
        return f"Range has no kernel for {name}"
    if any(node.require(index).numbers is None for index in range(3)):
        return "Range has a kernel for bounds that are known"
    return None


@lowering("Range", check=_check_range)
def lower_range(emitter: Emitter, node: Node) -> None:
    """Whole numbers that count up or down."""
    target = emitter.new_plain(node.outputs[0])
    start, _, step = ((node.require(index).numbers or [0])[0] for index in range(3))
    if target.size:
        kernel = count_up(target.dtype.name)
        emitter.emit(kernel, "plain", target=target.address, count=target.size, start=start, step=step)


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

