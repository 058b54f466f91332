"""Kernels over all elements of a shape, with operands at strides of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from cpuruntime.devices.gpu.kernels.elementwise import FLAT, STILL, WALK, Elementwise, Instruction
from cpuruntime.devices.gpu.lower.emitter import Emitter, Place
from cpuruntime.graph import Value


@dataclass(frozen=True)
class Walk:
    """A place, and where its elements lie along the axes of a shape: `begin` and strides count elements."""

    place: Place
    begin: int
    strides: tuple[int, ...]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of rows."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def whole(place: Place) -> Walk:
    """All elements of a place in their order."""
    return Walk(place, place.begin, contiguous(place.shape))


def broadcast(place: Place, shape: Sequence[int]) -> Walk:
    """The elements of a place repeated to a shape, by NumPy's rules."""
    own = [0 if size == 1 else stride for size, stride in zip(place.shape, contiguous(place.shape))]
    return Walk(place, place.begin, (*[0] * (len(shape) - len(own)), *own))


def emit(
    emitter: Emitter, expression: Sequence[Instruction], shape: Sequence[int], target: Walk, inputs: Sequence[Walk],
    numbers: Sequence[float] = (),
) -> None:  # fmt: skip
    """target = the expression of the inputs, over a shape; the last axis varies fastest."""
    walks = [target, *inputs]
    sizes, strides = _collapse(shape, [walk.strides for walk in walks])
    rows = contiguous(sizes)
    kinds = [FLAT if tuple(each) == rows else WALK if any(each) else STILL for each in strides]
    rank = len(sizes) if WALK in kinds else 1
    types = tuple(walk.place.element_type for walk in walks)
    kernel = Elementwise(tuple(expression), types, tuple(kinds), rank, len(numbers))
    arguments: list[int | float] = [prod(sizes), *sizes[1:rank]]
    for walk, kind, each in zip(walks, kinds, strides):
        arguments += [walk.begin, *(each if kind == WALK else ())]
    emitter.each(kernel.source, [*(w.place.buffer for w in walks), *arguments, *map(float, numbers)], prod(sizes))


def _collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The same walk over fewer axes: those of one element dropped, neighbours joined where all operands allow it."""
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    sizes, steps = [shape[axis] for axis in axes], [[each[axis] for axis in axes] for each in strides]
    for axis in range(len(sizes) - 2, -1, -1):
        if all(each[axis] == each[axis + 1] * sizes[axis + 1] for each in steps):
            sizes[axis : axis + 2] = [sizes[axis] * sizes[axis + 1]]
            for each in steps:
                del each[axis]
    return sizes or [1], [each or [0] for each in steps] if sizes else [[1]] * len(steps)


def copy(emitter: Emitter, source: Walk, target: Walk, shape: Sequence[int]) -> None:
    """The elements of one walk to another, as the target's type."""
    emit(emitter, (), shape, target, [source])


def floats(emitter: Emitter, value: Value) -> Place:
    """A value of f32 as f32 in memory, whatever the precision."""
    known = emitter.place(value)
    if known.element_type == "f32":
        return known
    if value.constant is not None:
        return emitter.constant(value.data, (value,), "f32")
    target = emitter.scratch(known.size, "f32")
    target = Place(target.buffer, "f32", known.shape)
    copy(emitter, whole(known), whole(target), known.shape)
    return target
