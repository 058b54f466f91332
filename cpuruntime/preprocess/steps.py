"""The steps that change elements, order and extent: types, mean and scale, layouts, crop and pad, channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.api.layout import Layout
from cpuruntime.graph import Type, Value
from cpuruntime.preprocess.flow import Flow
from cpuruntime.preprocess.layouts import added, check_order, permutation, permuted
from cpuruntime.preprocess.words import PaddingMode
from cpuruntime.preprocess.writer import StepValue, StepWriter

_LAST = np.iinfo(np.int64)


def convert_element_type(flow: Flow, element_type: Type) -> None:
    """All planes in another type; `Type.dynamic` is the type that is wanted in the end."""
    wanted = flow.target_type if element_type.is_dynamic() else element_type
    if wanted.is_dynamic():
        raise flow.error("to which type? Give one, since none is set for the tensor.")
    flow.values = [flow.writer.cast(value, wanted) for value in flow.values]


def arithmetic(flow: Flow, op_type: str, numbers: Sequence[float]) -> None:
    """Subtract or divide by one number, or one for each channel."""
    value, shape = flow.value, [1]
    if not value.element_type.is_real():
        raise flow.error(
            f"the elements are {value.element_type.type_name}, and it needs real ones: convert_element_type first."
        )
    if len(numbers) != 1:
        axis, extents = flow.axis("C"), flow.shape
        if extents[axis] not in (None, len(numbers)):
            raise flow.error(f"{len(numbers)} numbers are given for {extents[axis]} channels.")
        shape = [1] * len(extents)
        shape[axis] = len(numbers)
    data = np.asarray(numbers, np.float32).reshape(shape)
    flow.value = flow.writer.op(op_type, value, flow.writer.constant(data, value.element_type.to_dtype()))


def convert_layout(flow: Flow, layout: Layout) -> None:
    """Transpose to a layout, with axes of one element in front where it has more; empty is the wanted one."""
    target = flow.target_layout if layout.empty else layout
    value, rank = flow.value, len(flow.shape)
    names = flow.layout.names(rank, flow.where)
    more = added(names, target, flow.where)
    if more:
        value = _unsqueezed(flow, value, len(more))
        names = [*more, *names]
    order = permutation(names, target.names(len(names), flow.where), flow.where)
    flow.value = transposed(flow.writer, value, order)
    flow.layout = target


def permute(flow: Flow, order: Sequence[int]) -> None:
    """Transpose: axis i of the result is axis `order[i]`."""
    check_order(order, len(flow.shape), flow.where)
    flow.layout = permuted(flow.layout, order, flow.where)
    flow.value = transposed(flow.writer, flow.value, order)


def transposed(writer: StepWriter, value: Value, order: Sequence[int]) -> Value:
    """A value whose axis i is axis `order[i]` of another."""
    return value if list(order) == sorted(order) else writer.op("Transpose", value, perm=list(order))


def _unsqueezed(flow: Flow, value: Value, count: int) -> Value:
    ones = flow.writer.constant([1] * count)
    return flow.writer.op("Reshape", value, flow.writer.op("Concat", ones, flow.writer.shape_of(value), axis=0))


def crop(flow: Flow, begin: Sequence[int], end: Sequence[int]) -> None:
    """The part from `begin` to before `end` of each axis; negative ones count from the end."""
    if len(begin) != len(end) or len(begin) > len(flow.shape):
        raise flow.error(f"{len(begin)} begins and {len(end)} ends are given for rank {len(flow.shape)}.")
    bounds = [flow.writer.constant(list(one)) for one in (begin, end)]
    flow.value = flow.writer.op("Slice", flow.value, *bounds, flow.writer.constant(list(range(len(begin)))))


def pad(flow: Flow, begin: Sequence[int], end: Sequence[int], number: float, mode: PaddingMode) -> None:
    """Elements before and behind each axis; negative counts take some away."""
    shape = flow.shape
    if len(begin) != len(shape) or len(end) != len(shape):
        counts = f"{len(begin)} pads_begin, {len(end)} pads_end"
        raise flow.error(f"{counts}: a number of pads mismatches with rank of input, {len(shape)}.")
    if mode is PaddingMode.SYMMETRIC:
        for axis, counts in enumerate(zip(begin, end)):
            flow.value = _mirrored(flow, axis, *counts)
        return
    most = [None if extent is None else extent - 1 for extent in shape]
    if mode is PaddingMode.REFLECT and any(m is not None and max(b, e) > m for b, e, m in zip(begin, end, most)):
        raise flow.error(f"{list(begin)} and {list(end)} elements cannot be mirrored, of shape {list(shape)}.")
    word = "reflect" if mode is PaddingMode.REFLECT else "constant"
    value = flow.value
    filler = flow.writer.constant(number, value.element_type.to_dtype()) if word == "constant" else None
    flow.value = flow.writer.op("Pad", value, flow.writer.constant([*begin, *end]), filler, mode=word)


def _mirrored(flow: Flow, axis: int, before: int, behind: int) -> Value:
    writer, value, extent = flow.writer, flow.value, flow.shape[axis]
    if min(before, behind) < 0 or (extent is not None and max(before, behind) > extent):
        raise flow.error(f"{before} and {behind} elements of axis {axis} cannot be mirrored, which has {extent}.")
    parts = [value]
    if before:
        parts.insert(0, writer.slice(value, axis, before - 1, _LAST.min, -1))
    if behind:
        parts.append(writer.slice(value, axis, -1, -1 - behind, -1))
    return writer.op("Concat", *parts, axis=axis) if len(parts) > 1 else value


def reverse_channels(flow: Flow) -> None:
    """The channels in the opposite order."""
    flow.value = flow.writer.slice(flow.value, flow.axis("C"), -1, _LAST.min, -1)


def drop_last_channel(flow: Flow) -> None:
    """Without the last channel."""
    flow.value = flow.writer.slice(flow.value, flow.axis("C"), 0, -1)


def custom(flow: Flow, function: Callable[[StepValue], Any]) -> None:
    """What a user's function makes of the value."""
    result = function(StepValue(flow.writer, flow.value))
    if not isinstance(result, StepValue):
        raise flow.error(f"{function!r:.60} returned {result!r:.60}, not a StepValue: return what value.apply gives.")
    flow.value = result.value
