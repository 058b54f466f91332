"""What integer kernels read for their epilogue: parameters of the output channels, limits, the residual."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node, Type, Value
from cpuruntime.ops.tiles.integer_shapes import LIMITS
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import INFINITY, clamp
from cpuruntime.program.plan.storage import Address

FLIP = 128
"""Makes a signed byte unsigned by exclusive or; its zero point grows by as much."""


def unsigned(value: Value, zero: int) -> tuple[int, int]:
    """The flip that makes bytes unsigned, and their zero point then."""
    return (FLIP, zero + FLIP) if value.element_type == Type.i8 else (0, zero)


def stored(node: Node) -> dict[str, int]:
    """The fields of kernels that round float32 numbers to the bytes of a node's output: see `ops.byte_rows`."""
    a = node.attributes
    return dict(least=a["low"] - a["y_zero"], most=a["high"] - a["y_zero"], y_zero=a["y_zero"])


def limits(emitter: Emitter, node: Node) -> Address:
    """The LIMITS of a node's epilogue."""
    numbers, a = np.zeros((), LIMITS), node.attributes
    if node.outputs[0].element_type == Type.f32:
        numbers["low"], numbers["high"] = clamp(node) or (-INFINITY, INFINITY)
        return emitter.constant(numbers)
    numbers["flip"], numbers["zero"] = unsigned(node.outputs[0], a["y_zero"])
    numbers["least"], numbers["most"] = a["low"] + numbers["flip"], a["high"] + numbers["flip"]
    bias = node.input(3)
    numbers["has_bias"] = bias is not None and bias.element_type == Type.f32
    if a.get("residual_scale") is not None and len(node.inputs) > 4 and node.inputs[4] is not None:
        numbers["residual_flip"], numbers["residual_zero"] = unsigned(node.require(4), a["residual_zero"])
        numbers["residual_scale"] = a["residual_scale"]
        if a.get("inner"):
            numbers["has_inner"] = 1
            numbers["inner_scale"], numbers["inner_low"], numbers["inner_high"] = a["inner"]
    return emitter.constant(numbers)


def channel_parameters(
    sums: np.ndarray, multiplier: np.ndarray, bias: np.ndarray | None, blocks: int
) -> np.ndarray:
    """[blocks][4][LANES]: int32 bias, sum of weights, float32 multiplier, float32 bias; zeros beyond the channels."""
    found: list[Any] = [np.zeros(1, np.int32), sums, multiplier.reshape(-1).view(np.int32), np.zeros(1, np.int32)]
    if bias is not None:
        found[0 if bias.dtype == np.int32 else 3] = np.ascontiguousarray(bias).reshape(-1).view(np.int32)
    table = np.zeros((4, blocks * LANES), np.int32)
    for row, numbers in zip(table, found):
        row[: len(sums)] = numbers
    return table.reshape(4, blocks, LANES).swapaxes(0, 1)
