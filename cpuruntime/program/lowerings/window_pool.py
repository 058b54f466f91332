"""Pools on the plain layout: WindowPool of any type and with indices, MaxUnpool."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from cpuruntime.errors import ModelError, printable
from cpuruntime.graph import Extent, Node
from cpuruntime.ops.window_pool import max_pool, max_unpool, norm_pool
from cpuruntime.program.lowerings.from_shapes import emit_fill
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import is_movable, lowering

AXES = 3


def padded(numbers: Sequence[Extent], neutral: int) -> list[Extent]:
    """An entry for depth, height and width."""
    return [neutral] * (AXES - len(numbers)) + list(numbers)


@lowering("WindowPool", domain="cpuruntime")
def lower_window_pool(emitter: Emitter, node: Node) -> None:
    """One step for the elements and their indices."""
    source, attributes = emitter.plain(node.require(0)), node.attributes
    target, rank = emitter.new_plain(node.outputs[0]), len(source.shape) - 2
    wants_indices = len(node.outputs) > 1 and node.outputs[1].name
    power = attributes["power"]
    emitter.emit(
        norm_pool(power) if power else max_pool(source.dtype.name), "plain", source=source.address,
        target=target.address, indices=emitter.new_plain(node.outputs[1]).address if wants_indices else 0,
        planes=prod(source.shape[:2]), by_columns=attributes.get("storage_order", 0),
        extents=padded(source.shape[2:], 1), counts=padded(target.shape[2:], 1),
        window=padded(attributes["kernel_shape"], 1), strides=padded(attributes["strides"], 1),
        dilations=padded(attributes["dilations"], 1), pads=padded(attributes["pads"][:rank], 0),
    )  # fmt: skip


def _check_unpool(node: Node) -> str | None:
    x = node.require(0)
    if not is_movable(x) or len(x.static_shape) > 2 + AXES or len(x.static_shape) < 3:
        return f"MaxUnpool has no kernel for {x}"
    return None


@lowering("MaxUnpool", check=_check_unpool)
def lower_max_unpool(emitter: Emitter, node: Node) -> None:
    """Zeros, then each element at its place in the image that was pooled."""
    source, indices = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    target, rank = emitter.new_plain(node.outputs[0]), len(source.shape) - 2
    strides, pads = node.attributes.get("strides") or [1] * rank, node.attributes.get("pads") or [0] * 2 * rank
    extents = [
        (extent - 1) * strides[axis] + node.attributes["kernel_shape"][axis] - pads[axis] - pads[axis + rank]
        for axis, extent in enumerate(source.shape[2:])
    ]
    if indices.shape != source.shape or target.shape[:2] != source.shape[:2] or any(e < 1 for e in extents):
        raise ModelError(
            f"{node.where}: an input of shape {list(source.shape)} with indices of shape {list(indices.shape)} does "
            f"not come from an image of {extents} for a result of shape {list(target.shape)}."
        )
    emit_fill(emitter, target, np.zeros(1, target.dtype))
    message = f"{node.where}: an index in '{printable(node.require(1).name)}' is not of the image that was pooled."
    emitter.emit(
        max_unpool, "plain", source=source.address, indices=indices.address, target=target.address,
        fault=emitter.fault(message), element=source.dtype.itemsize, size=source.size, planes=source.shape[0],
        extents=[source.shape[1], *padded(extents, 1)], wanted=[target.shape[1], *padded(target.shape[2:], 1)],
    )  # fmt: skip
