"""Epilogues: the argument fields for bias, limits and activations that kernels apply before their store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Extent, Node, Value
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.plan.tables import zeros

INFINITY = float("inf")


def clamp(node: Node) -> tuple[float, float] | None:
    """The range a node's activation clamps to; None without one, and when the activation is no clamp."""
    activation = node.attributes.get("activation", "")
    if activation == "Clip":
        low, high = node.attributes["activation_arguments"]
        return float(low), float(high)
    return (0.0, INFINITY) if activation == "Relu" else None


def parameter_fields(op: str, arguments: Sequence[float]) -> dict[str, float]:
    """The kernel fields of an activation's arguments, which are in the order of `ACTIVATIONS`."""
    values = list(arguments) or list(ACTIVATIONS[op].parameters.values())
    return dict(zip(("alpha", "beta"), values))


def activation_fields(node: Node) -> tuple[str, dict[str, float]]:
    """The activation of a node and the kernel fields of its arguments; "" without one, and where it is a clamp."""
    activation = node.attributes.get("activation", "")
    if activation in ("", "Relu", "Clip"):
        return "", {}
    return activation, parameter_fields(activation, node.attributes["activation_arguments"])


def clamp_fields(node: Node) -> dict[str, float]:
    """The fields of an elementwise kernel that clamps its results as the node's activation does."""
    bounds = clamp(node)
    return {} if bounds is None else dict(clamp=1, low=bounds[0], high=bounds[1])


def limits(emitter: Emitter, node: Node) -> Address | int:
    """The `limits` argument of a kernel: 0 when there is nothing to clamp in it."""
    bounds = clamp(node)
    return 0 if bounds is None else emitter.constant(np.array(bounds, np.float32))


def with_limits(emitter: Emitter, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` for a kernel that always clamps: `limits` points at infinities where there is nothing to clamp."""
    unbounded = np.array([-INFINITY, INFINITY], np.float32)
    return fields if fields["limits"] else fields | {"limits": emitter.constant(unbounded)}


def whole_vectors(emitter: Emitter, value: Value | None, channels: Extent) -> Address:
    """A value's numbers, one for each channel, such as a bias; zeros up to whole vectors and without a value.

    Those of a value that is no constant lie in whole vectors already.
    """
    if value is not None and value.constant is None and channels % LANES == 0:
        return emitter.plain(value).address
    if value is None:
        return emitter.table(zeros, -(-channels // LANES) * LANES)
    padded = np.zeros(-(-channels // LANES) * LANES, np.float32)
    padded[:channels] = value.data.reshape(-1)
    return emitter.constant(padded)
