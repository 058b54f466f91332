"""Operators that move elements: each is one or a few copies between walks, or a kernel that looks indices up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from cpuruntime.devices.gpu.kernels.movement import Gather, Pad
from cpuruntime.devices.gpu.lower.emitter import Emitter
from cpuruntime.devices.gpu.lower.walks import Walk, broadcast, contiguous, copy, emit, whole
from cpuruntime.graph import Node, Type

View = tuple[int, tuple[int, ...]]
"""Where the first element of a view lies, and strides along its axes, in elements."""


def lower_view(emitter: Emitter, node: Node) -> None:
    """Nothing: the result lies where the input does."""


def _transpose(node: Node) -> View:
    rank = len(node.require(0).static_shape)
    perm = node.attributes.get("perm") or list(range(rank))[::-1]
    strides = contiguous(node.require(0).static_shape)
    return 0, tuple(strides[axis] for axis in perm)


def _slice(node: Node) -> View:
    shape = node.require(0).static_shape
    strides, begin = list(contiguous(shape)), 0
    starts, ends = (node.require(index).numbers or [] for index in (1, 2))
    axes, steps = (value and value.numbers for value in (node.input(3), node.input(4)))
    axes, steps = axes or range(len(starts)), steps or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps):
        at = slice(start, end if end > -(2**62) else None, step).indices(shape[axis])[0]
        begin += at * strides[axis]
        strides[axis] *= step
    return begin, tuple(strides)


def _expand(node: Node) -> View:
    own, shape = node.require(0).static_shape, node.outputs[0].static_shape
    steps = [0 if size == 1 else step for size, step in zip(own, contiguous(own))]
    return 0, (*[0] * (len(shape) - len(own)), *steps)


def view_lowering(view: Callable[[Node], View]) -> Callable[[Emitter, Node], None]:
    """The lowering of an operator whose result is a view of its first input."""

    def lower(emitter: Emitter, node: Node) -> None:
        place = emitter.place(node.require(0))
        begin, strides = view(node)
        target = emitter.new(node.outputs[0])
        copy(emitter, Walk(place, place.begin + begin, strides), whole(target), target.shape)

    return lower


def check_numbers(node: Node) -> str | None:
    """Why an operator whose further inputs must be known cannot be lowered."""
    if any(value is not None and value.numbers is None for value in node.inputs[1:]):
        return f"{node.op_type} has a kernel for constant parameters"
    return None


def _moved(emitter: Emitter, node: Node, shape: Sequence[int], order: Sequence[int]) -> None:
    """The first input seen in `shape`, its axes in another order."""
    place, strides = emitter.place(node.require(0)), contiguous(shape)
    target = emitter.new(node.outputs[0])
    walk = Walk(place, place.begin, tuple(strides[axis] for axis in order))
    extents = tuple(shape[axis] for axis in order)
    copy(emitter, walk, Walk(target, target.begin, contiguous(extents)), extents)


def lower_channel_shuffle(emitter: Emitter, node: Node) -> None:
    """Channels as groups, turned."""
    batch, channels, *spatial = node.require(0).static_shape
    group = node.attributes["group"]
    _moved(emitter, node, (batch, group, channels // group, prod(spatial)), (0, 2, 1, 3))


def lower_depth_to_space(emitter: Emitter, node: Node) -> None:
    """Channels become pixels of blocks."""
    batch, channels, height, width = node.require(0).static_shape
    block = node.attributes["blocksize"]
    rest = channels // block**2
    if node.attributes.get("mode", "DCR") == "DCR":
        _moved(emitter, node, (batch, block, block, rest, height, width), (0, 3, 4, 1, 5, 2))
    else:
        _moved(emitter, node, (batch, rest, block, block, height, width), (0, 1, 4, 2, 5, 3))


def lower_space_to_depth(emitter: Emitter, node: Node) -> None:
    """Pixels of blocks become channels."""
    batch, channels, height, width = node.require(0).static_shape
    block = node.attributes["blocksize"]
    shape = (batch, channels, height // block, block, width // block, block)
    _moved(emitter, node, shape, (0, 3, 5, 1, 2, 4))


def lower_concat(emitter: Emitter, node: Node) -> None:
    """A copy of each input."""
    target = emitter.new(node.outputs[0])
    axis, strides, at = node.attributes["axis"] % len(target.shape), contiguous(target.shape), 0
    for value in node.inputs:
        assert value is not None
        place = emitter.place(value)
        if place.size:
            copy(emitter, whole(place), Walk(target, at * strides[axis], strides), place.shape)
        at += place.shape[axis]


def lower_split(emitter: Emitter, node: Node) -> None:
    """A copy to each output."""
    place = emitter.place(node.require(0))
    axis, strides, at = node.attributes.get("axis", 0) % len(place.shape), contiguous(place.shape), 0
    for output in node.outputs:
        if output.name:
            target = emitter.new(output)
            copy(emitter, Walk(place, place.begin + at * strides[axis], strides), whole(target), target.shape)
        at += output.static_shape[axis]


def lower_tile(emitter: Emitter, node: Node) -> None:
    """Axes of no stride beside those of the input."""
    place, target = emitter.place(node.require(0)), emitter.new(node.outputs[0])
    pairs = list(zip(target.shape, place.shape, contiguous(place.shape)))
    shape = [extent for size, own, _ in pairs for extent in (size // own, own)]
    strides = [step for _, _, stride in pairs for step in (0, stride)]
    copy(emitter, Walk(place, place.begin, tuple(strides)), Walk(target, 0, contiguous(shape)), shape)


def _borders(node: Node) -> list[tuple[int, int]]:
    """How much Pad adds before and behind each axis."""
    rank = len(node.require(0).static_shape)
    numbers, axes = node.require(1).numbers or [], node.input(3)
    chosen = range(rank) if axes is None else [axis % rank for axis in axes.numbers or []]
    found = dict(zip(chosen, zip(numbers, numbers[len(numbers) // 2 :])))
    return [found.get(axis, (0, 0)) for axis in range(rank)]


def check_pad(node: Node) -> str | None:
    """Why a Pad has no kernel."""
    mode = node.attributes.get("mode", "constant")
    if mode not in ("constant", "edge", "reflect"):
        return f"Pad has no kernel for mode {mode}"
    if node.require(0).element_type != Type.f32:
        return "Pad has a kernel for f32"
    return check_numbers(node)


def lower_pad(emitter: Emitter, node: Node) -> None:
    """A border around axes: one after the other, the last two at once."""
    place, value = emitter.place(node.require(0)), node.input(2)
    number = 0.0 if value is None else float((value.numbers or [0.0])[0])
    borders, shape = [(0, 0), *_borders(node)], [1, *place.shape]
    last = len(shape) - 2
    steps = [axis for axis in range(last) if any(borders[axis])]
    if not steps or any(map(any, borders[last:])):
        steps.append(last)
    for axis in steps:
        ends = [axis, -1] if axis == last else [axis]
        rows, columns = shape[axis], prod(shape[axis + 1 :])
        for end in ends:
            shape[end] += sum(borders[end])
        height, width, count = shape[axis], prod(shape[axis + 1 :]), prod(shape)
        target = emitter.new(node.outputs[0]) if axis == steps[-1] else emitter.scratch(count)
        kernel = Pad(place.element_type, target.element_type, node.attributes.get("mode", "constant"))
        begins = [-borders[axis][0], -borders[-1][0] if axis == last else 0]
        sizes = [count, height, width, 1, 1, rows, columns, *begins, 1, 1]
        emitter.each(kernel.source, [place.buffer, target.buffer, *sizes, number], count)
        place = target


def _gather(emitter: Emitter, node: Node, many: int, inner: int, each: int) -> None:
    data, indices = (emitter.place(node.require(index)) for index in range(2))
    target = emitter.new(node.outputs[0])
    axis = node.attributes.get("axis", 0) % len(data.shape)
    kernel = Gather(data.element_type, indices.element_type, target.element_type)
    sizes = [target.size, many, data.shape[axis], inner, each]
    emitter.each(kernel.source, [data.buffer, indices.buffer, target.buffer, *sizes], target.size)


def lower_gather(emitter: Emitter, node: Node) -> None:
    """Slices by indices."""
    shape = node.require(0).static_shape
    axis = node.attributes.get("axis", 0) % len(shape)
    _gather(emitter, node, prod(node.require(1).static_shape), prod(shape[axis + 1 :]), 0)


def lower_gather_elements(emitter: Emitter, node: Node) -> None:
    """Elements by indices of the result's shape."""
    shape, own = node.require(1).static_shape, node.require(0).static_shape
    axis = node.attributes.get("axis", 0) % len(shape)
    _gather(emitter, node, shape[axis], prod(own[axis + 1 :]), 1)


def check_gather_elements(node: Node) -> str | None:
    """Why a GatherElements has no kernel."""
    shape, own = node.require(1).static_shape, node.require(0).static_shape
    axis = node.attributes.get("axis", 0) % len(shape)
    same = shape[:axis] == own[:axis] and shape[axis + 1 :] == own[axis + 1 :]
    return check_gather(node) or (None if same else "GatherElements has a kernel for indices of all other elements")


def check_gather(node: Node) -> str | None:
    """Why a gathering operator has no kernel."""
    return None if 0 not in node.require(0).static_shape else f"{node.op_type} has no kernel for empty tensors"


def lower_fill(emitter: Emitter, node: Node) -> None:
    """ConstantOfShape."""
    value = node.attributes.get("value")
    array = np.zeros(1, np.float32) if value is None else np.asarray(value).reshape(-1)
    target = emitter.new(node.outputs[0])
    source = emitter.constant(array, (node, "value"))
    emit(emitter, (), target.shape, whole(target), [broadcast(source, target.shape)])


TRANSPOSE, SLICE, EXPAND = view_lowering(_transpose), view_lowering(_slice), view_lowering(_expand)
