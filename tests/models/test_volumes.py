"""Networks on volumes (video, medical images): each computes what ONNX Runtime does, by kernels."""

from __future__ import annotations

from typing import Any

import pytest
from support.judge import Net, compare

CONVOLUTIONS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any]]] = {
    "3x3x3": ((2, 5, 6, 7, 8), 17, (3, 3, 3), dict(pads=[1] * 6)),
    "valid": ((1, 16, 5, 6, 7), 16, (3, 3, 3), {}),
    "strided": ((1, 4, 9, 10, 11), 20, (3, 3, 3), dict(pads=[1] * 6, strides=[2, 2, 2])),
    "dilated": ((1, 4, 9, 10, 11), 6, (2, 3, 3), dict(pads=[2, 2, 2, 1, 0, 2], dilations=[3, 2, 1])),
    "image kernel": ((2, 5, 4, 7, 8), 6, (1, 3, 3), dict(pads=[0, 1, 1, 0, 1, 1], strides=[1, 2, 2])),
    "depth kernel": ((2, 5, 6, 7, 8), 6, (3, 1, 1), dict(pads=[1, 0, 0, 1, 0, 0], strides=[2, 1, 1])),
    "pointwise": ((2, 5, 4, 3, 8), 33, (1, 1, 1), {}),
    "pointwise strided": ((2, 5, 4, 3, 8), 33, (1, 1, 1), dict(strides=[2, 2, 2])),
    "whole": ((1, 3, 4, 5, 6), 7, (4, 5, 6), {}),
    "grouped": ((1, 12, 4, 5, 6), 18, (3, 3, 3), dict(group=3, pads=[1] * 6)),
    "depthwise": ((1, 19, 4, 5, 6), 19, (3, 3, 3), dict(group=19, pads=[1] * 6)),
    "auto_pad": ((1, 3, 4, 5, 6), 4, (3, 2, 3), dict(auto_pad="SAME_UPPER", strides=[2, 2, 1])),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    shape, out, kernel, options = CONVOLUTIONS[case]
    n = Net()
    n.output(n.conv(n.input(*shape), shape[1], out, kernel, **options))
    compare(n.model(), config={"INFERENCE_NUM_THREADS": 2})


def test_a_small_video_network() -> None:
    """Normalisation, activations and residuals end in the convolutions."""
    n = Net()
    x = n.input(1, 3, 8, 16, 16)
    y = n("Relu", n.norm(n.conv(x, 3, 16, (3, 3, 3), pads=[1] * 6, strides=[1, 2, 2]), 16))
    z = n("Relu", n.norm(n.conv(y, 16, 16, (3, 3, 3), pads=[1] * 6), 16))
    z = n.norm(n.conv(z, 16, 16, (3, 3, 3), pads=[1] * 6), 16)
    y = n("Relu", n("Add", z, y))
    n.output(n("GlobalMaxPool", y))
    y = n("MaxPool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    y = n("Flatten", n("GlobalAveragePool", n.conv(y, 16, 24, (1, 1, 1))))
    n.output(n("Gemm", y, n.weights(24, 10)))
    compiled = compare(n.model())
    convolutions = [row for row in compiled.explain().rows if row.op_type == "Conv" and row.layout == "blocked"]
    assert len(convolutions) == 4
    assert sum("Relu" in node for row in convolutions for node in row.nodes) == 3
