"""Pad and Tile from ONNX to results: each computes what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest
from support.judge import Net, compare

from cpuruntime.graph import Node, Type, Value
from cpuruntime.program.lowerings.catalogue import find_lowering


def test_a_blocked_tensor() -> None:
    n = Net()
    y = n.conv(n.input(1, 3, 6, 5), 3, 19)
    n.output(n("Pad", y, n.integers(0, 1, 1, 0, 0, 0, 0, 2), n.constant(3.0)), n("Tile", y, n.integers(2, 1, 1, 3)))
    compare(n.model())


@pytest.mark.parametrize(
    ("mode", "pads"), [("reflect", [5, 0]), ("reflect", [2, -1]), ("wrap", [0, 6]), ("edge", [-1, 0])]
)
def test_pads_beyond_the_source_have_no_kernel(mode: str, pads: list[int]) -> None:
    x, y = Value("x", Type.f32, (5,)), Value("y", Type.f32, (5 + sum(pads),))
    node = Node("Pad", "p", [x, Value.of("pads", np.array(pads))], [y], {"mode": mode}, "", 19)
    assert find_lowering(node) == f"Pad has no kernel for pads {pads} of 5 elements in the mode '{mode}'"
