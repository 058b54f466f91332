"""Pad in all its modes, and Tile."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.errors import printable
from cpuruntime.graph import Node, Value
from cpuruntime.ops.movement import MAX_RANK
from cpuruntime.program.lowerings.from_shapes import emit_fill
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import is_movable, lowering
from cpuruntime.program.plan.storage import Plain


def _check(node: Node) -> str | None:
    """Elements that copies can move, and sizes that are known."""
    if not is_movable(node.outputs[0]):
        return f"{node.op_type} has no kernel for {node.outputs[0].element_type.get_type_name()}"
    if any(value is not None and value.numbers is None for value in (node.input(1), node.input(3))):
        return f"{node.op_type} has a kernel for sizes that are known only"
    rank = len(node.outputs[0].static_shape)
    if node.op_type == "Tile":  # a repeated axis is walked twice
        rank += sum(not isinstance(times, int) or times != 1 for times in node.require(1).numbers or ())
    if rank > MAX_RANK:
        return f"{node.op_type} has no kernel for {len(node.outputs[0].static_shape)} dimensions"
    return _check_mode(node) if node.op_type == "Pad" else None


def _check_mode(node: Node) -> str | None:
    """Modes that repeat elements take them from the source; constants also pad nothing, and negatively."""
    mode = node.attributes.get("mode", "constant")
    if mode == "constant":
        return None
    for extent, *pads in zip(node.require(0).static_shape, *_pads(node)):
        if min(pads) < 0 or extent == 0 or max(pads) > {"edge": max(pads), "reflect": extent - 1}.get(mode, extent):
            return f"Pad has no kernel for pads {pads} of {extent} elements in the mode '{printable(mode)}'"
    return None


def _pads(node: Node) -> tuple[list[int], list[int]]:
    """The elements added before and after each axis."""
    rank, pads, axes = len(node.require(0).static_shape), node.require(1).numbers or [], node.input(3)
    places = range(rank) if axes is None else [int(axis) % rank for axis in axes.numbers or []]
    before, after = [0] * rank, [0] * rank
    for axis, start, end in zip(places, pads[: len(places)], pads[len(places) :]):
        before[axis], after[axis] = start, end
    return before, after


@lowering("Pad", check=_check)
def lower_pad(emitter: Emitter, node: Node) -> None:
    """The target filled with the value, then the source in it; negative pads cut elements off.

    In the other modes the source is copied first, and the pads of each axis from there.
    """
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    before, after = _pads(node)
    constant = node.attributes.get("mode", "constant") == "constant"
    if constant and any(pad > 0 for pad in (*before, *after)):
        _fill(emitter, node.input(2), target)
    middle = [max(0, n + min(b, 0) + min(a, 0)) for n, b, a in zip(source.shape, before, after)]
    cut = sum(max(-b, 0) * stride for b, stride in zip(before, source.strides))
    moved = sum(max(b, 0) * stride for b, stride in zip(before, target.strides))
    emitter.copy(
        source.address + cut, target.address + moved, middle, source.strides, target.strides, source.dtype.itemsize
    )
    if not constant:
        _repeat(emitter, node.attributes["mode"], target, middle, before)


def _fill(emitter: Emitter, value: Value | None, target: Plain) -> None:
    """The target of an element that is zero, a constant or computed."""
    if value is None or value.constant is not None:
        emit_fill(emitter, target, np.zeros(1, target.dtype) if value is None else value.data.reshape(1))
    else:
        element = target.dtype.itemsize
        emitter.copy(emitter.plain(value).address, target.address, [target.size], [0], [element], element)


def _repeat(emitter: Emitter, mode: str, target: Plain, middle: list[int], before: list[int]) -> None:
    """Fills the pads of one axis after the other from the `middle` elements that lie between them."""
    shape, starts = list(middle), list(before)
    for axis, (extent, first) in enumerate(zip(middle, before)):
        step, behind = target.strides[axis], target.shape[axis] - first - extent
        # Where to, how many, where from, and in which direction.
        sides = {
            "edge": ((0, first, first, 0), (first + extent, behind, first + extent - 1, 0)),
            "reflect": ((0, first, 2 * first, -1), (first + extent, behind, first + extent - 2, -1)),
            "wrap": ((0, first, extent, 1), (first + extent, behind, first, 1)),
        }[mode]
        for to, count, origin, direction in sides:
            shape[axis] = count
            base = sum(start * stride for start, stride in zip(starts, target.strides)) - starts[axis] * step
            strides = list(target.strides)
            strides[axis] = direction * step
            emitter.copy(
                target.address + base + origin * step, target.address + base + to * step, shape, strides,
                target.strides, target.dtype.itemsize,
            )  # fmt: skip
        shape[axis], starts[axis] = target.shape[axis], 0


@lowering("Tile", check=_check)
def lower_tile(emitter: Emitter, node: Node) -> None:
    """A copy that reads each axis as often as it is repeated."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    shape: list[int] = []
    strides: tuple[list[int], list[int]] = ([], [])
    for axis, extent in enumerate(source.shape):
        times = target.shape[axis] // extent if extent else 0
        shape += [times, extent]
        strides[0].extend((0, source.strides[axis]))
        strides[1].extend((extent * target.strides[axis], target.strides[axis]))
    if prod(shape):
        emitter.copy(source.address, target.address, shape, *strides, source.dtype.itemsize)
