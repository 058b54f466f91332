"""DepthToSpace and SpaceToDepth: strided copies, of whole pixels where channels fall on whole blocks."""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import Layout, lowering, only_float32
from cpuruntime.program.plan.storage import Blocked, Plain

Strides = tuple[int, ...]


def _shapes(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The shapes with few and with many channels, and how often the side of one goes into that of the other."""
    shapes = node.require(0).static_shape, node.outputs[0].static_shape
    few, many = shapes if node.op_type == "SpaceToDepth" else shapes[::-1]
    return few, many, node.attributes["blocksize"]


def _check(node: Node) -> str | None:
    few, many, size = _shapes(node)
    batch, channels, height, width = few if len(few) == 4 else (0, 0, 0, 0)
    if many != (batch, channels * size * size, height // size, width // size) or height % size or width % size:
        return f"{node.op_type} has a kernel for images whose extents {size} divides"
    return only_float32(node)


def _moves_pixels(node: Node) -> bool:
    """Whether channels that stay together in the blocked layout also do so in the result."""
    few, _, _ = _shapes(node)
    return few[1] % LANES == 0 and node.attributes.get("mode", "DCR") == "DCR"


@lowering("DepthToSpace", "SpaceToDepth", layout=Layout.FOLLOW, check=_check, follows=_moves_pixels)
def lower_depth(emitter: Emitter, node: Node) -> None:
    """One copy over batch, place in the square, channels, rows and columns of squares."""
    few, many, size = _shapes(node)
    value, output = node.require(0), node.outputs[0]
    to_depth = node.op_type == "SpaceToDepth"
    views: tuple[Blocked, Blocked] | tuple[Plain, Plain]
    if emitter.is_blocked(output):
        views = emitter.blocked(value), emitter.new_blocked(output)
        layout, channels, lanes, step = "blocked", few[1] // LANES, [LANES], (4,)
        strides = [(*view.strides, VECTOR_BYTES) for view in views]
    else:
        views = emitter.plain(value), emitter.new_plain(output)
        layout, channels, lanes, step = "plain", few[1], [], ()
        strides = [view.strides for view in views]
    wide, deep = strides if to_depth else strides[::-1]
    last = node.attributes.get("mode", "DCR") == "DCR"
    walks = (*_in_image(wide, size), *step), (*_in_depth(deep, size, channels, last), *step)
    first, second = walks if to_depth else walks[::-1]
    shape = (few[0], size, size, channels, many[2], many[3], *lanes)
    emitter.copy(views[0].address, views[1].address, shape, first, second, 4, layout)


def _in_image(strides: Strides, size: int) -> Strides:
    batch, channel, row, pixel = strides
    return (batch, row, pixel, channel, size * row, size * pixel)


def _in_depth(strides: Strides, size: int, channels: int, channels_last: bool) -> Strides:
    """With `channels_last` a channel is (row in square, column in square, channel), else the last comes first."""
    batch, channel, row, pixel = strides
    if channels_last:
        return (batch, size * channels * channel, channels * channel, channel, row, pixel)
    return (batch, size * channel, channel, size * size * channel, row, pixel)
