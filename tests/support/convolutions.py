"""Convolutions to test: the program of a case, and its result in float64."""

from __future__ import annotations

import numpy as np
from cases.convolution import Convolution

from cpuruntime.graph import Node
from cpuruntime.program.plan.planner import Planner

from .programs import NodeProgram, Prepare, assert_close, random_array, same_for_threads

FAMILIES = ("convolution", "depthwise", "grouped")  # of kernels that compute directly
WINOGRAD_SLACK = 10.0  # its transforms cost a digit


def convolve(case: Convolution, x: np.ndarray) -> np.ndarray:
    """The sums of products in float64, image by image shifted under each element of the kernel."""
    rank = len(case.kernel)
    image = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *((case.pads[i], case.pads[rank + i]) for i in range(rank))])
    weights = case.weights.astype(np.float64)
    y = np.zeros(case.output_shape)
    inputs, outputs = x.shape[1] // case.group, case.channels // case.group
    for place in np.ndindex(*case.kernel):
        window = [
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, s, n in zip(place, case.dilations, case.strides, y.shape[2:])
        ]
        for group in range(case.group):
            part = image[(slice(None), slice(group * inputs, (group + 1) * inputs), *window)]
            rows = slice(group * outputs, (group + 1) * outputs)
            y[:, rows] += np.einsum("oi,ni...->no...", weights[(rows, slice(None), *place)], part, optimize=True)
    return y


def expected(case: Convolution, inputs: list[np.ndarray]) -> np.ndarray:
    """The result in float64."""
    y = convolve(case, inputs[0])
    if case.bias:
        y += random_array((case.channels,), 2).reshape(-1, *[1] * len(case.kernel))
    if case.residual:
        y += inputs[1]
    if case.activation == "Relu":
        return np.maximum(y, 0)
    if case.activation == "LeakyRelu":
        return np.where(y < 0, case.arguments[0] * y, y)
    return np.clip(y, *case.arguments) if case.activation == "Clip" else y


def check(
    case: Convolution, *, threads: int = 1, prepare: Prepare | None = None, winograd: bool = False
) -> NodeProgram:
    """Plans the case for `threads` threads and compares what 1, 2 and 3 of them compute."""
    watched = ("winograd",) if winograd else FAMILIES
    planned = NodeProgram(case.node(), threads=threads, watched=watched, prepare=prepare, exact=not winograd)
    actual = same_for_threads(planned, *case.inputs)
    assert_close(actual, expected(case, case.inputs), case.terms, WINOGRAD_SLACK if winograd else 1.0)
    return planned


def halo_around(*names: str, left: int = 1, right: int = 2) -> Prepare:
    """Gives values a halo, as other readers of theirs would."""

    def prepare(planner: Planner, node: Node) -> None:
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.name in names:
                planner.layouts.halos[value] = (left, right)

    return prepare
