"""What a product's kernel does before its store, and what is left to a step after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Address

INFINITY = float("inf")


def clamp_limits(node: Node) -> tuple[float, float] | None:
    """The range a node's activation clamps to, unbounded without one; None when the activation is no clamp."""
    activation = node.attributes.get("activation", "")
    if activation == "":
        return -INFINITY, INFINITY
    if activation == "Relu":
        return 0.0, INFINITY
    if activation == "Clip":
        low, high = node.attributes["activation_arguments"]
        return float(low), float(high)
    return None


def limits(planner: Planner, node: Node) -> Address | int:
    """The `limits` argument of a kernel: 0 when there is nothing to clamp in it."""
    clamp = clamp_limits(node)
    if clamp is None or clamp == (-INFINITY, INFINITY):
        return 0
    array = np.array(clamp, np.float32)
    return planner.weights.constant(planner.weights.identity(array), array)


def with_limits(planner: Planner, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` for a kernel that always clamps: `limits` points at infinities where there is nothing to clamp."""
    if fields["limits"]:
        return fields
    array = np.array([-INFINITY, INFINITY], np.float32)
    return fields | {"limits": planner.weights.constant(planner.weights.identity(array), array)}


def padded_bias(bias: np.ndarray | None, channels: int, lanes: int) -> np.ndarray:
    """The bias of all channels, zeros for a missing one and up to whole vectors."""
    padded = np.zeros(-(-channels // lanes) * lanes, np.float32)
    if bias is not None:
        padded[:channels] = bias.reshape(-1)
    return padded
