"""Pooling: windowed and global, maximum and average."""

from __future__ import annotations

from cpuruntime.graph import Node, Value
from cpuruntime.ops.pooling import global_pool, pool
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import Layout, lowering, only_float32


def _check(node: Node) -> str | None:
    source, target = node.require(0), node.outputs[0]
    if len(node.outputs) > 1 and node.outputs[1].name:
        return f"{node.op_type} has no kernel that also gives indices"
    if len(source.static_shape) not in (3, 4):
        return f"{node.op_type} has kernels for 1 and 2 spatial dimensions, not for {len(source.static_shape) - 2}"
    if 0 in (*source.static_shape, *target.static_shape):
        return f"{node.op_type} has no kernel for empty tensors"
    return only_float32(node)


def _pair(node: Node, name: str, value: Value, single: int) -> tuple[int, int]:
    """An attribute of one number per spatial axis; `single` stands for the height of a signal."""
    numbers = node.attributes[name]
    return (single, numbers[0]) if len(value.static_shape) == 3 else (numbers[0], numbers[1])


def _is_global(node: Node, value: Value) -> bool:
    """Whether a pool has one window, the whole image."""
    spatial = list(value.static_shape[2:])
    return list(node.attributes["kernel_shape"]) == spatial and not any(node.attributes["pads"])


@lowering("MaxPool", "AveragePool", layout=Layout.BLOCKED, check=_check)
def lower_pool(emitter: Emitter, node: Node) -> None:
    """Emits a windowed pool."""
    value = node.require(0)
    if node.op_type == "AveragePool" and _is_global(node, value):
        lower_global_pool(emitter, node)
        return
    source, target = emitter.blocked(value), emitter.new_blocked(node.outputs[0])
    kernel_height, kernel_width = _pair(node, "kernel_shape", value, 1)
    stride_height, stride_width = _pair(node, "strides", value, 1)
    dilation_height, dilation_width = _pair(node, "dilations", value, 1)
    pads = node.attributes["pads"]
    top, left, bottom, right = (0, pads[0], 0, pads[1]) if len(pads) == 2 else pads
    emitter.emit(
        pool(node.op_type == "AveragePool"), "blocked",
        **source.fields("source"), **target.fields("target"),
        batch=source.batch, blocks=source.blocks, in_height=source.height, in_width=source.width,
        height=target.height, width=target.width, kernel_height=kernel_height, kernel_width=kernel_width,
        stride_height=stride_height, stride_width=stride_width, dilation_height=dilation_height,
        dilation_width=dilation_width, pad_top=top, pad_left=left, pad_bottom=bottom, pad_right=right,
        include_pad=node.attributes.get("count_include_pad", 0),
    )  # fmt: skip


@lowering("GlobalAveragePool", "GlobalMaxPool", layout=Layout.BLOCKED, check=_check)
def lower_global_pool(emitter: Emitter, node: Node) -> None:
    """Emits a pool over whole images, also an average pool whose only window is the image."""
    value = node.require(0)
    source, target = emitter.blocked(value), emitter.new_blocked(node.outputs[0])
    fields = target.fields("target")
    del fields["target_row"]
    emitter.emit(
        global_pool(node.op_type != "GlobalMaxPool"), "blocked", **source.fields("source"), **fields,
        batch=source.batch, blocks=source.blocks, height=source.height, width=source.width,
    )  # fmt: skip
