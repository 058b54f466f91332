"""Chains of elementwise operators as one generated kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node, Type, Value, alike
from cpuruntime.operators.traits import function_traits
from cpuruntime.ops.fused import FLOAT, INPUTS, Expression, fused_kernel, input_types, result_type
from cpuruntime.ops.tiles import loops
from cpuruntime.passes import alone
from cpuruntime.program.plan.elementwise_steps import Walk, blocked_shape, blocked_walk, operand_walk, plain_walk
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import whole_vectors
from cpuruntime.program.plan.layout import fits_blocked
from cpuruntime.program.plan.lowering import Layout, lowering
from cpuruntime.program.plan.storage import Address, Blocked

_BYTES = {"RealU8", "RealI8", "ToU8", "ToI8"}


def _follows(node: Node) -> bool:
    """Whether the operands can be read in blocks, and the unused lanes stay numbers."""
    output = node.outputs[0]
    whole = alike(output.static_shape[1] % LANES, 0)
    if not whole and not all(op in _BYTES or function_traits(op).finite for op, _ in node.attributes["expression"]):
        return False
    return all(
        fits_blocked(value, output) if view is None else whole and view[2] == 1 and value.element_type == Type.f32
        for value, view in zip(node.inputs, node.attributes["views"])
    )


@lowering("Dequantise", "Quantise", domain="cpuruntime", layout=Layout.FOLLOW)
def lower_alone(emitter: Emitter, node: Node) -> None:
    """One pass over memory from bytes to numbers or back."""
    parts = alone(node)
    reads = [(each.value, each.view) for each in parts.inputs]
    _lower(emitter, node.outputs[0], reads, parts.expression, parts.numbers)


@lowering("Elementwise", domain="cpuruntime", layout=Layout.FOLLOW, follows=_follows, operands=0)
def lower_fused(emitter: Emitter, node: Node) -> None:
    """One pass over memory."""
    values = [value for value in node.inputs if value is not None]
    reads = list(zip(values, node.attributes["views"]))
    _lower(emitter, node.outputs[0], reads, node.attributes["expression"], node.attributes["numbers"])


def _lower(
    emitter: Emitter, output: Value, reads: list[tuple[Value, list[int] | None]], expression: Expression,
    numbers: Sequence[float],
) -> None:  # fmt: skip
    if emitter.is_blocked(output):
        target = emitter.new_blocked(output)
        walks = [_blocked_operand(emitter, value, view, target) for value, view in reads]
        _emit(emitter, expression, numbers, "blocked", blocked_shape(target), [blocked_walk(target), *walks])
        return
    plain = emitter.new_plain(output)
    walks = [_plain_operand(emitter, value, view, plain.shape) for value, view in reads]
    walks = _side_by_side(emitter, plain.shape, [plain_walk(plain, plain.shape), *walks], [value for value, _ in reads])
    _emit(emitter, expression, numbers, "plain", plain.shape, walks)


def _emit(
    emitter: Emitter, expression: Expression, numbers: Sequence[float], layout: str, shape: Sequence[int],
    walks: Sequence[Walk],
) -> None:  # fmt: skip
    names = ("target", *INPUTS[: len(walks) - 1])
    repeat = {*input_types(expression), result_type(expression)} == {FLOAT}
    nest = loops.nest(shape, repeat, **{name: strides for name, (_, strides) in zip(names, walks)})
    still = "".join(name for name in names[1:] if nest.get(f"{name}5", 0) <= 0)
    kernel = fused_kernel(expression, still)
    numbers = {f"p{index}": number for index, number in enumerate(numbers)}
    addresses = {name: address for name, (address, _) in zip(names, walks)}
    source = f"source {Path(kernel.function.__code__.co_filename).name}"
    emitter.emit(kernel, layout, notes=source, **nest, **addresses, **numbers)


def _plain_operand(emitter: Emitter, value: Value, view: list[int] | None, shape: Sequence[int]) -> Walk:
    plain = emitter.plain(value)
    if view is None:
        return plain_walk(plain, shape)
    offset, *strides = (number * plain.dtype.itemsize for number in view)
    return plain.address + offset, strides


def _side_by_side(emitter: Emitter, shape: Sequence[int], walks: list[Walk], values: Sequence[Value]) -> list[Walk]:
    """The walks with copies of those operands whose elements do not follow each other along the rows."""
    _, collapsed = loops.collapse(shape, *(strides for _, strides in walks))
    for index, (value, strides) in enumerate(zip(values, collapsed[1:]), start=1):
        size = value.element_type.to_dtype().itemsize
        if strides and strides[-1] not in (0, size):
            address, old = walks[index]
            extents = [1 if stride == 0 else extent for extent, stride in zip(shape, old)]
            new = loops.contiguous(extents, size)
            copy = Address(emitter.scratch(size * prod(extents)))
            emitter.copy(address, copy, extents, old, new, size)
            walks[index] = copy, [0 if extent == 1 else stride for extent, stride in zip(extents, new)]
    return walks


def _blocked_operand(emitter: Emitter, value: Value, view: list[int] | None, target: Blocked) -> Walk:
    if view is not None:
        batch, channel, *spatial = view[1:]
        row, pixel = spatial if len(spatial) == 2 else (0, spatial[0])
        steps = (batch, LANES * channel, row, pixel, channel)
        return emitter.plain(value).address + 4 * view[0], tuple(4 * step for step in steps)
    if value.constant is not None and value.constant.size == value.static_shape[1] > 1:
        return whole_vectors(emitter, value, value.constant.size), (0, VECTOR_BYTES, 0, 0, 4)
    return operand_walk(emitter, value, target)
