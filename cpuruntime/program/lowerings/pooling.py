"""Pooling: windowed and global, maximum and average."""

from __future__ import annotations

from typing import Any

from cpuruntime.graph import Node, Type, alike
from cpuruntime.ops.byte_pooling import byte_pool
from cpuruntime.ops.pooling import global_pool, pool
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.layout import is_image
from cpuruntime.program.plan.lowering import Layout, lowering, only_images, pair
from cpuruntime.program.plan.requantise import stored


def _check(node: Node) -> str | None:
    if len(node.outputs) > 1 and node.outputs[1].name:
        return f"{node.op_type} has no kernel that also gives indices"
    if 0 in (*node.require(0).static_shape, *node.outputs[0].static_shape):
        return f"{node.op_type} has no kernel for empty tensors"
    if node.op_type == "MaxPool" and is_image(node.require(0)):
        return None
    return only_images(node)


@lowering("QuantisedAveragePool", domain="cpuruntime", layout=Layout.BLOCKED)
@lowering("MaxPool", "AveragePool", layout=Layout.BLOCKED, check=_check)
def lower_pool(emitter: Emitter, node: Node) -> None:
    """Emits a windowed pool."""
    value, pads = node.require(0), node.attributes["pads"]
    if node.op_type == "AveragePool" and _is_whole(node):
        lower_global_pool(emitter, node)
        return
    source, target = emitter.blocked(value), emitter.new_blocked(node.outputs[0])
    fields: dict[str, Any] = {}
    for name, attribute in (("kernel", "kernel_shape"), ("stride", "strides"), ("dilation", "dilations")):
        fields[f"{name}_height"], fields[f"{name}_width"] = pair(node, attribute)
    top, left, bottom, right = (0, pads[0], 0, pads[1]) if len(pads) == 2 else pads
    kernel = pool(node.op_type == "AveragePool")
    if value.element_type != Type.f32:
        is_average = node.op_type == "QuantisedAveragePool"
        kernel = byte_pool(value.element_type == Type.i8, is_average)
        if is_average:
            fields |= dict(zero=node.attributes["x_zero"], multiplier=node.attributes["multiplier"], **stored(node))
    emitter.emit(
        kernel, "blocked", **source.fields("source"), **target.fields("target"),
        **target.sizes(), in_height=source.height, in_width=source.width, **fields,
        pad_top=top, pad_left=left, pad_bottom=bottom, pad_right=right,
        include_pad=node.attributes.get("count_include_pad", 0),
    )  # fmt: skip


def _is_whole(node: Node) -> bool:
    """Whether the only window of a pool is the image; an image of open size is pooled by windows."""
    extents = zip(node.attributes["kernel_shape"], node.require(0).static_shape[2:])
    return all(alike(kernel, extent) for kernel, extent in extents) and not any(node.attributes["pads"])


@lowering("GlobalAveragePool", "GlobalMaxPool", layout=Layout.BLOCKED, check=_check)
def lower_global_pool(emitter: Emitter, node: Node) -> None:
    """Emits a pool over whole images, also an average pool whose only window is the image."""
    source, target = emitter.blocked(node.require(0)), emitter.new_blocked(node.outputs[0]).fields("target")
    del target["target_row"]
    kernel = global_pool(node.op_type != "GlobalMaxPool")
    emitter.emit(kernel, "blocked", **source.fields("source"), **target, **source.sizes())
