"""Col2Im, and the columns of a DeformConv."""

from __future__ import annotations

from math import prod
from typing import Any

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.inputs import attribute
from cpuruntime.ops.columns import moved_columns, overlapped
from cpuruntime.program.lowerings.window_pool import AXES, padded
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering


def _check(node: Node) -> str | None:
    x, numbers = node.require(0), [node.require(index).numbers for index in (1, 2)]
    if x.element_type is not Type.f32 or len(x.static_shape) != 3:
        return f"Col2Im has a kernel for f32[N, C, L], not for {x}"
    if any(given is None or len(given) > AXES for given in numbers):
        return f"Col2Im has a kernel for images of up to {AXES} known extents"
    return None


@lowering("Col2Im", check=_check)
def lower_col2im(emitter: Emitter, node: Node) -> None:
    """One sum for each element of the images."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    image, window = (node.require(index).numbers or [] for index in (1, 2))
    rank = len(image)
    strides, dilations = (attribute(node, name) or [1] * rank for name in ("strides", "dilations"))
    pads = attribute(node, "pads") or [0] * 2 * rank
    counts = [
        (image[axis] + pads[axis] + pads[axis + rank] - dilations[axis] * (window[axis] - 1) - 1) // strides[axis] + 1
        for axis in range(rank)
    ]
    planes = prod(target.shape[:2])
    if source.shape != (target.shape[0], target.shape[1] * prod(window), prod(counts)) or min(counts) < 0:
        raise ModelError(
            f"{node.where}: an input of shape {list(source.shape)} has no columns of windows {window} of images of "
            f"{image}; there are {counts} windows."
        )
    if target.size:
        emitter.emit(
            overlapped, "plain", source=source.address, target=target.address, planes=planes,
            extents=padded(image, 1), counts=padded(counts, 1), window=padded(window, 1), strides=padded(strides, 1),
            dilations=padded(dilations, 1), pads=padded(pads[:rank], 0),
        )  # fmt: skip


@lowering("DeformColumns", domain="cpuruntime")
def lower_deform_columns(emitter: Emitter, node: Node) -> None:
    """The elements under each window, moved."""
    source, offsets = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    mask, target, a = node.input(2), emitter.new_plain(node.outputs[0]), node.attributes
    fields: dict[str, Any] = {} if mask is None else {"mask": emitter.plain(mask).address}
    emitter.emit(
        moved_columns, "plain", source=source.address, offsets=offsets.address, target=target.address,
        batch=source.shape[0], groups=a["groups"], channels=source.shape[1] // a["groups"],
        extents=list(source.shape[2:]), counts=list(offsets.shape[2:]), window=a["kernel_shape"],
        strides=a["strides"], dilations=a["dilations"], pads=a["pads"][:2], **fields,
    )  # fmt: skip
