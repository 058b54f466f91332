"""Operators that move elements: views, transposes, slices, concatenations, channel shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.errors import ModelError, printable
from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.movement_shapes import bound_of_slice
from cpuruntime.ops.movement import MAX_RANK, gather
from cpuruntime.ops.reorder import channel_table, gather_channels
from cpuruntime.ops.tiles import loops
from cpuruntime.program.plan.division import rows_together
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.layout import LayoutPlan, whole_blocks
from cpuruntime.program.plan.lowering import Layout, axis_of, is_movable, lowering, only_images
from cpuruntime.program.plan.storage import Plain


def _check_copy(node: Node) -> str | None:
    """Elements the copy kernels can move; other inputs (axes, starts) must be constants."""
    for value in (node.require(0), *node.outputs):
        if not is_movable(value):
            return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
        if len(value.static_shape) > MAX_RANK:
            return f"{node.op_type} has kernels for up to {MAX_RANK} dimensions, not for {len(value.static_shape)}"
    if node.op_type not in ("Concat", "Gather"):
        for value in node.inputs[1:]:
            if value is not None and value.numbers is None:
                return f"{node.op_type} has a kernel for constant {value.name!r} only"
    return None


@lowering("Reshape", domain="cpuruntime")
@lowering("Identity")
def lower_reshape(emitter: Emitter, node: Node) -> None:
    """The same memory, for Reshape under another shape."""
    emitter.alias_plain(node.outputs[0], emitter.plain(node.require(0)))


def _check_bits(node: Node) -> str | None:
    x, y = node.require(0), node.outputs[0]
    fits = is_movable(x) and is_movable(y) and x.element_type.size == y.element_type.size
    return None if fits and y.element_type != Type.boolean else f"BitCast has no kernel for {x} as {y}"


@lowering("BitCast", check=_check_bits)
def lower_bit_cast(emitter: Emitter, node: Node) -> None:
    """The same memory as elements of another type of that size."""
    source, output = emitter.plain(node.require(0)), node.outputs[0]
    emitter.alias_plain(output, Plain(source.address, source.shape, np.dtype(output.element_type.to_dtype())))


def _copy(emitter: Emitter, source: Plain, output: Value, strides: Sequence[int], offset: int = 0) -> Plain:
    """All elements of `output` by a walk over the source."""
    target, size = emitter.new_plain(output), source.dtype.itemsize
    emitter.copy(source.address + offset, target.address, target.shape, strides, target.strides, size)
    return target


@lowering("Transpose", check=_check_copy)
def lower_transpose(emitter: Emitter, node: Node) -> None:
    """A strided copy."""
    source = emitter.plain(node.require(0))
    order = node.attributes.get("perm") or range(len(source.shape))[::-1]
    _copy(emitter, source, node.outputs[0], [source.strides[axis] for axis in order])


@lowering("Expand", check=_check_copy)
def lower_expand(emitter: Emitter, node: Node) -> None:
    """A copy that reads broadcast dimensions again and again."""
    source, output = emitter.plain(node.require(0)), node.outputs[0]
    _copy(emitter, source, output, loops.broadcast(source.shape, source.strides, output.static_shape))


@lowering("Slice", check=_check_copy)
def lower_slice(emitter: Emitter, node: Node) -> None:
    """A copy of every step-th element between the bounds, which may be negative or beyond the axis."""
    source, starts = emitter.plain(node.require(0)), node.require(1).numbers or []
    axes, steps = (None if v is None else v.numbers for v in (node.input(3), node.input(4)))
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    strides, offset = list(source.strides), 0
    for start, axis, step in zip(starts, axes, steps):
        axis %= len(source.shape)
        offset += bound_of_slice(source.shape[axis], start, step, True) * strides[axis]
        strides[axis] *= step
    _copy(emitter, source, node.outputs[0], strides, offset)


def _has_gaps(values: Sequence[Value]) -> bool:
    """Whether a part ends within a block of channels."""
    return any(value.static_shape[1] % LANES for value in values[:-1])


def _splits_channels(node: Node) -> bool:
    output = node.outputs[0]
    axis = node.attributes.get("axis", 0) % len(output.static_shape)
    return axis == 1 and (output.element_type == Type.f32 or not _has_gaps(node.outputs))


def _split_in_place(node: Node, plan: LayoutPlan) -> None:
    """The parts are where the whole is, or else gathered."""
    whole, channel = node.require(0), 0
    gathers = whole in plan.gathers or _has_gaps(node.outputs)
    for value in node.outputs:
        channels = value.static_shape[1]
        if gathers:
            plan.gathers[value] = whole, range(channel, channel + channels)
        else:
            plan.slices[value] = whole, channel
        channel += channels


@lowering("Split", layout=Layout.FOLLOW, check=_check_copy, follows=_splits_channels, operands=1, join=_split_in_place)
def lower_split(emitter: Emitter, node: Node) -> None:
    """One strided copy or gather for each part; none where they are whole blocks of channels."""
    if emitter.is_blocked(node.outputs[0]):
        for value in node.outputs:
            if value in emitter.layouts.gathers:
                _gather_channels(emitter, value)
            else:
                emitter.new_blocked(value)
        return
    source = emitter.plain(node.require(0))
    axis, offset = axis_of(node, 0, len(source.shape)), 0
    for value in node.outputs:
        target = _copy(emitter, source, value, source.strides, offset)
        offset += target.shape[axis] * source.strides[axis]


@lowering("Gather", check=_check_copy)
def lower_gather(emitter: Emitter, node: Node) -> None:
    """Slices along one axis by int32 or int64 indices."""
    source, indices = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    target = emitter.new_plain(node.outputs[0])
    axis = axis_of(node, 0, len(source.shape))
    extent = source.shape[axis]
    if target.size:
        message = f"{node.where}: an index in '{printable(node.require(1).name)}' is out of range; each "
        if not extent:
            raise ModelError(f"{message}has nothing to refer to.")
        emitter.emit(
            gather, "plain", moved=2 * target.nbytes + indices.nbytes, source=source.address, target=target.address,
            indices=indices.address, index_bytes=indices.dtype.itemsize, outer=prod(source.shape[:axis]), axis=extent,
            count=indices.size, inner_bytes=prod(source.shape[axis + 1 :]) * source.dtype.itemsize,
            fault=emitter.fault(f"{message}must be between ", -extent, " and ", extent - 1, "."),
        )  # fmt: skip


def _joins_channels(node: Node) -> bool:
    output = node.outputs[0]
    joins = bool(node.attributes["axis"] % len(output.static_shape) == 1)
    return joins and (output.element_type == Type.f32 or not _has_gaps([v for v in node.inputs if v is not None]))


def _join_in_place(node: Node, plan: LayoutPlan) -> None:
    """Lets the inputs be written straight into the blocked result, or to its staging."""
    output = node.outputs[0]
    values = [v for v in node.inputs if v is not None]
    whole = output
    if _has_gaps(values):
        batch, _, *spatial = output.static_shape
        padded = sum(whole_blocks(v) for v in values)
        whole = plan.stagings[output] = Value(f"{output.name}/staging", Type.f32, (batch, padded, *spatial))
        whole.producer = node
        plan.blocked.add(whole)
    channel = 0
    picks: list[int] = []
    for value in values:
        picks += range(channel, channel + value.static_shape[1])
        produced = value.producer is not None and value.constant is None
        if value in plan.blocked and value not in plan.slices and produced:
            plan.slices[value] = (whole, channel)
        channel += whole_blocks(value)
    if whole is not output:
        plan.gathers[output] = whole, picks


@lowering("Concat", layout=Layout.FOLLOW, check=_check_copy, follows=_joins_channels, join=_join_in_place)
def lower_concat(emitter: Emitter, node: Node) -> None:
    """Blocked along channels, most inputs are already in place; the rest is copied."""
    values = [v for v in node.inputs if v is not None]
    axis = node.attributes["axis"] % len(node.outputs[0].static_shape)
    if emitter.is_blocked(node.outputs[0]):
        _concat_blocked(emitter, values, node.outputs[0])
        return
    target = emitter.new_plain(node.outputs[0])
    offset = 0
    for value in values:
        source = emitter.plain(value)
        emitter.copy(
            source.address, target.address + offset, source.shape, source.strides, target.strides,
            source.dtype.itemsize,
        )  # fmt: skip
        offset += source.shape[axis] * target.strides[axis]


def _concat_blocked(emitter: Emitter, values: list[Value], output: Value) -> None:
    """Copies what is not in place; from a staging, one step gathers all channels."""
    staging = emitter.layouts.stagings.get(output)
    whole = emitter.new_blocked(staging or output)
    channel = 0
    for value in values:
        if emitter.layouts.slices.get(value) != (staging or output, channel):
            source = emitter.blocked(value)
            part = whole.slice(channel // LANES, source.channels)
            size = source.itemsize
            shape = (source.batch, source.blocks, source.height, source.width * LANES)
            strides = [(*v.strides, size) for v in (source, part)]
            emitter.copy(source.address, part.address, shape, *strides, element=size, layout="blocked")
        channel += whole_blocks(value)
    if staging is not None:
        _gather_channels(emitter, output)


def _shuffle(node: Node, plan: LayoutPlan) -> None:
    """Channel c of the result is channel c % group * (C / group) + c // group of the source."""
    channels = node.outputs[0].static_shape[1]
    order = np.arange(channels).reshape(node.attributes["group"], -1).T.reshape(-1)
    plan.gathers[node.outputs[0]] = node.require(0), order.tolist()


@lowering("ChannelShuffle", domain="cpuruntime", layout=Layout.BLOCKED, check=only_images, join=_shuffle)
def lower_channel_shuffle(emitter: Emitter, node: Node) -> None:
    """One gather."""
    _gather_channels(emitter, node.outputs[0])


def _gather_channels(emitter: Emitter, value: Value) -> None:
    """Writes the channels that a value picks, unless its readers pick them themselves."""
    if value in emitter.layouts.passed:
        return
    whole, picks = emitter.layouts.gathered(value)
    entries, starts = map(emitter.constant, channel_table(picks))
    source, target = emitter.blocked(whole), emitter.new_blocked(value)
    emitter.emit(
        gather_channels, "blocked", entries=entries, starts=starts, **source.fields("source"),
        **target.fields("target"), **target.sizes(), chunk=rows_together(whole, target.height, emitter.threads),
    )  # fmt: skip
