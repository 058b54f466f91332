"""Image: images of bytes that are resized, moved and made floats by one kernel."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Extent, Node, Type, Value
from cpuruntime.ops.image import read_image
from cpuruntime.program.lowerings.resize import resize_tables
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.storage import Address


@lowering("Image", domain="cpuruntime")
def lower_image(emitter: Emitter, node: Node) -> None:
    """Rows of all channels where they are interleaved, else of each channel."""
    attributes, source, target = node.attributes, emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    places = [attributes["order"].index(index) for index in range(4)]
    shape = [source.shape[axis] for axis in attributes["axes"]]
    batch, channels, height, width = (target.shape[place] for place in places)
    strides = [source.strides[axis] for axis in attributes["axes"]]
    first, step = attributes["first"], attributes["step"]
    interleaved = attributes["axes"][1] == 3
    pixel = shape[1] if interleaved else 1
    fields: dict[str, Extent] = dict(line_first=4 * first, line_step=4 * step, planes=1, channels=channels)
    address = source.address
    if not interleaved:
        address += first * strides[1]
        fields = dict(source_plane=step * strides[1], planes=channels, channels=1)
    line = shape[3] * pixel
    names = ("batch", "channel", "row", "pixel")
    fields |= {f"target_{name}": target.strides[place] for name, place in zip(names, places)}
    scratch = 4 * (line + width)
    emitter.emit(
        read_image, "plain", source=address, source_batch=strides[0], pixel=pixel, line_size=line,
        target=target.address, batch=batch, height=height, width=width, rounds=attributes["rounds"],
        means=_numbers(emitter, node.input(1), channels, 0), scales=_numbers(emitter, node.input(2), channels, 1),
        **emitter.thread_memory(scratch), **fields,
        **resize_tables(emitter, _resize(node, shape, [batch, shape[1], height, width]), strides[2], 4 * pixel),
    )  # fmt: skip


def _resize(node: Node, source: list[Extent], target: list[Extent]) -> Node:
    """The Resize of an image N, C, H, W."""
    values = [Value("x", Type.f32, source), Value("y", Type.f32, target)]
    return Node("Resize", node.name, values[:1], values[1:], node.attributes, "", 19)


def _numbers(emitter: Emitter, value: Value | None, channels: int, default: float) -> Address:
    data = np.float32([default]) if value is None else value.data
    return emitter.constant(np.ascontiguousarray(np.broadcast_to(data, (channels,))))
