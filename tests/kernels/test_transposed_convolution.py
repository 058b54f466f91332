"""Transposed convolutions as programs run them: strides, dilations, groups, halos, residuals, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.programs import NodeProgram, activation, assert_close, random_array, same_for_threads

from cpuruntime.graph import Node, Value

pytestmark = pytest.mark.every_isa

CASES: dict[str, tuple[tuple[int, int, int, int], int, tuple[int, int], dict[str, Any]]] = {
    "kernel as stride": ((1, 16, 3, 5), 16, (2, 2), dict(strides=[2, 2])),
    "kernel beyond stride": ((2, 19, 3, 4), 33, (4, 3), dict(strides=[2, 2], pads=[1, 1, 0, 2])),
    "phases without elements": ((1, 3, 3, 2), 5, (1, 2), dict(strides=[3, 4])),
    "output padding": ((1, 7, 3, 3), 17, (3, 3), dict(strides=[2, 3], extra=[1, 2])),
    "dilated": ((1, 5, 4, 4), 40, (2, 3), dict(strides=[2, 3], dilations=[3, 2], pads=[1, 2, 3, 0])),
    "one pixel": ((1, 33, 1, 1), 5, (3, 2), {}),
    "grouped": ((1, 12, 3, 3), 18, (3, 3), dict(group=3, strides=[2, 1])),
    "wide": ((1, 4, 2, 31), 4, (2, 3), dict(strides=[1, 2], pads=[1, 1, 1, 1])),
}


def expected(x: np.ndarray, w: np.ndarray, shape: tuple[int, ...], a: dict[str, Any]) -> np.ndarray:
    """Every product added where it belongs, in a result with a wide margin that is cut off."""
    margin, (top, left) = 16, a["pads"][:2]
    wide = np.zeros((shape[0], shape[1], shape[2] + 3 * margin, shape[3] + 3 * margin))
    group_in, group_out = x.shape[1] // a["group"], w.shape[0] // a["group"]
    for i, j, y, z in np.ndindex(x.shape[2], x.shape[3], w.shape[2], w.shape[3]):
        row = margin - top + i * a["strides"][0] + y * a["dilations"][0]
        column = margin - left + j * a["strides"][1] + z * a["dilations"][1]
        for g in range(a["group"]):
            part = x[:, g * group_in : (g + 1) * group_in, i, j].astype(np.float64)
            outputs = slice(g * group_out, (g + 1) * group_out)
            wide[:, outputs, row, column] += part @ w[outputs, :, y, z].T
    return wide[:, :, margin : margin + shape[2], margin : margin + shape[3]]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fused", [False, True])
def test_against_numpy(case: str, fused: bool) -> None:
    shape, channels, kernel, options = CASES[case]
    a: dict[str, Any] = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 1, **options}
    extra = a.pop("extra", [0, 0])
    a |= {"kernel_shape": list(kernel), "activation": "Relu" if fused else "", "activation_arguments": []}
    extents = [
        (n - 1) * s + d * (k - 1) + 1 - begin - end + e
        for n, s, d, k, begin, end, e in zip(
            shape[2:], a["strides"], a["dilations"], kernel, a["pads"][:2], a["pads"][2:], extra
        )
    ]
    result = (shape[0], channels, *extents)
    w, bias = random_array((channels, shape[1] // a["group"], *kernel), 1), random_array((channels,), 2)
    x, residual = random_array(shape, 3), random_array(result, 4)
    inputs = [activation("x", shape), Value.of("w", w), Value.of("b", bias) if fused else None]
    inputs.append(activation("residual", result) if fused else None)
    node = Node("ConvTranspose", "layer", inputs, [activation("y", result)], a, "cpuruntime", 1)
    planned = NodeProgram(node, threads=2, watched=["transposed_convolution"])
    found = same_for_threads(planned, *([x, residual] if fused else [x]))
    wanted = expected(x, w, result, a)
    if fused:
        wanted = np.maximum(wanted + bias.reshape(-1, 1, 1) + residual, 0)
    assert_close(found, wanted, w[0].size)
