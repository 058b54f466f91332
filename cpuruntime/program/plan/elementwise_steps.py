"""Steps over the loop nest, for plain and blocked operands alike."""

from __future__ import annotations

from collections.abc import Sequence

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Node, Value, alike
from cpuruntime.ops.elementwise import unary_kernel
from cpuruntime.ops.tiles import loops
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields
from cpuruntime.program.plan.storage import Address, Blocked, Plain

OPERANDS = ("first", "second", "third")

Walk = tuple[Address, Sequence[int]]
"""Where an operand starts, and its byte strides over the dimensions of the result."""


def blocked_shape(view: Blocked) -> tuple[int, ...]:
    """The dimensions of a loop over a blocked tensor."""
    return (view.batch, view.blocks, view.height, view.width, LANES)


def blocked_walk(view: Blocked) -> Walk:
    """Every element of a blocked tensor, unused lanes included."""
    return view.address, (*view.strides, view.pixel, view.itemsize)


def plain_walk(view: Plain, result: Sequence[int]) -> Walk:
    """A plain tensor broadcast to the shape `result`."""
    return view.address, loops.broadcast(view.shape, view.strides, result)


def operand_walk(emitter: Emitter, value: Value, result: Blocked) -> Walk:
    """An operand of a blocked result: a scalar, or an image that may have extents of 1."""
    shape = value.static_shape
    if all(extent == 1 for extent in shape):
        return emitter.plain(value).address, (0,) * 5
    if shape[1] == 1 and result.channels > 1:
        view = emitter.plain(value)
        n, _, *spatial = (0 if extent == 1 else stride for extent, stride in zip(shape, view.strides))
        height, width = spatial if len(spatial) == 2 else (0, spatial[0])
        return view.address, (n, 0, height, width, 0)
    view = emitter.blocked(value)
    address, strides = blocked_walk(view)
    extents = zip(blocked_shape(view), blocked_shape(result), strides)
    return address, tuple(
        stride if alike(extent, wanted) or extent != 1 else 0 for extent, wanted, stride in extents
    )


def emit_nest(
    emitter: Emitter, kernel: Kernel, layout: str, shape: Sequence[int], target: Walk, operands: Sequence[Walk],
    *, repeat: bool = False, **fields: float,
) -> None:  # fmt: skip
    """A step of an elementwise kernel; nothing for an empty result."""
    if 0 in shape:
        return
    walks = dict(zip(("target", *OPERANDS), (target, *operands)))
    nest = loops.nest(shape, repeat, **{name: strides for name, (_, strides) in walks.items()})
    addresses = {name: address for name, (address, _) in walks.items()}
    emitter.emit(kernel, layout, **nest, **addresses, **fields)


def emit_elementwise(
    emitter: Emitter, kernel: Kernel, output: Value, values: Sequence[Value | None], **fields: float
) -> Blocked | Plain:
    """A step of an elementwise kernel on `values`, which broadcast to `output`; returns the view of the output."""
    given = [value for value in values if value is not None]
    if not emitter.is_blocked(output):
        plain = emitter.new_plain(output)
        walks = [plain_walk(emitter.plain(value), plain.shape) for value in given]
        emit_nest(emitter, kernel, "plain", plain.shape, plain_walk(plain, plain.shape), walks, **fields)
        return plain
    target = emitter.new_blocked(output)
    walks = [
        blocked_walk(emitter.blocked(value)) if len(given) == 1 else operand_walk(emitter, value, target)
        for value in given
    ]
    place, shape = blocked_walk(target), blocked_shape(target)
    emit_nest(emitter, kernel, "blocked", shape, place, walks, repeat=len(given) > 1, **fields)
    return target


def apply_activation(emitter: Emitter, node: Node, view: Blocked | Plain) -> None:
    """The activation of a fused node, in place on its result."""
    op, fields = activation_fields(node)
    if isinstance(view, Blocked):
        walk, shape, layout = blocked_walk(view), blocked_shape(view), "blocked"
    else:
        walk, shape, layout = plain_walk(view, view.shape), view.shape, "plain"
    emit_nest(emitter, unary_kernel(op), layout, shape, walk, [walk], **fields)


