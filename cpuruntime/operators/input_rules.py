"""Rules on the shapes of inputs that ONNX's own inference does not check; the rows of `traits` name them.

Each raises ModelError when a node breaks it.
"""

from __future__ import annotations

from collections.abc import Callable

from cpuruntime.errors import ModelError, printable
from cpuruntime.graph import Node

Rule = Callable[[Node], None]


def convolution(node: Node) -> None:
    data, weights = node.inputs[0], node.inputs[1]
    if data is None or weights is None or weights.shape is None or len(weights.shape) < 3:
        return
    group = node.attributes.get("group", 1)
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None and not _agree(tuple(kernel), weights.shape[2:]):
        raise ModelError(f"{node.where}: kernel_shape {kernel} is not the weights' {list(weights.shape[2:])}.")
    transposed = node.op_type == "ConvTranspose"
    channels = data.shape[1] if data.shape is not None and len(data.shape) > 1 else None
    if transposed:
        if channels is not None and weights.shape[0] not in (None, channels):
            raise ModelError(f"{node.where}: weight channels {weights.shape[0]} != input channels {channels}.")
    elif channels is not None and weights.shape[1] is not None and weights.shape[1] * group != channels:
        raise ModelError(
            f"{node.where}: weight channels {weights.shape[1]} != input channels {channels} / groups {group}."
        )
    if weights.shape[0] is not None and weights.shape[0] % group:
        raise ModelError(f"{node.where}: {weights.shape[0]} channels are no multiple of {group} groups.")
    outputs = weights.shape[1] and weights.shape[1] * group if transposed else weights.shape[0]
    bias = node.input(2) if node.op_type != "ConvInteger" else None
    if bias is not None and bias.shape is not None and not _agree(bias.shape, (outputs,)):
        raise ModelError(f"{node.where}: the bias has shape {list(bias.shape)}, not [{outputs}].")


def batch_normalization(node: Node) -> None:
    data = node.inputs[0]
    spatial = node.attributes.get("spatial", 1)
    if data is None or data.shape is None or len(data.shape) < 2 or not spatial:
        return
    for value in node.inputs[1:]:
        if value is not None and value.shape is not None and not _agree(value.shape, (data.shape[1],)):
            raise ModelError(
                f"{node.where}: '{printable(value.name)}' has shape {list(value.shape)}, not the channels "
                f"[{data.shape[1]}]."
            )


def gemm(node: Node) -> None:
    a, b, c = (value.shape if value is not None else None for value in (node.input(0), node.input(1), node.input(2)))
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return
    rows, inner = a[::-1] if node.attributes.get("transA", 0) else a
    length, columns = b[::-1] if node.attributes.get("transB", 0) else b
    if None not in (inner, length) and inner != length:
        raise ModelError(f"{node.where}: the first matrix has {inner} columns, the second {length} rows.")
    for extent, whole in zip(reversed(c or ()), (columns, rows)):
        if None not in (extent, whole) and extent not in (1, whole):
            raise ModelError(f"{node.where}: the bias of shape {list(c or ())} does not fit [{rows}, {columns}].")


def _agree(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> bool:
    return len(a) == len(b) and all(x is None or y is None or x == y for x, y in zip(a, b))
