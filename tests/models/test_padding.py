"""Pad and Tile from ONNX to results: each computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import Net, compare

from cpuruntime.graph import Node, Type, Value
from cpuruntime.program.lowerings.catalogue import find_lowering


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.int8])
def test_types(dtype: Any) -> None:
    n = Net(opset=18)
    x = n.input(3, 4, dtype=dtype)
    value = n.constant(1 if dtype == np.bool_ else 5, dtype)
    n.output(n("Pad", x, n.integers(1, 0, 2, 3), value), n("Tile", x, n.integers(2, 3)))
    compare(n.model())


@pytest.mark.parametrize(
    "pads", [(0, 0, 1, 2, 0, 0, 3, 4), (1, 2, 0, 0, 0, 1, 0, 0), (0, 0, -1, 2, 0, 0, 3, -2), (0, -1, 0, 0, 0, 0, -2, 0)]
)
def test_pads(pads: tuple[int, ...]) -> None:
    n = Net()
    x = n.input(2, 3, 5, 6)
    n.output(n("Pad", x, n.integers(*pads), n.constant(-1.5)), n("Pad", x, n.integers(*pads)))
    compare(n.model())


def test_axes() -> None:
    n = Net(opset=18)
    n.output(n("Pad", n.input(2, 3, 5), n.integers(1, 2, 3, 4), n.constant(0.25), n.integers(-1, 0)))
    compare(n.model())


def test_a_blocked_tensor() -> None:
    n = Net()
    y = n.conv(n.input(1, 3, 6, 5), 3, 19)
    n.output(n("Pad", y, n.integers(0, 1, 1, 0, 0, 0, 0, 2), n.constant(3.0)), n("Tile", y, n.integers(2, 1, 1, 3)))
    compare(n.model())


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 2, 1, 3), (2, 0, 0, 3), (1, 3, 2, 0)])
def test_modes_that_repeat_elements(mode: str, pads: tuple[int, ...]) -> None:
    n = Net(opset=19)
    n.output(n("Pad", n.input(3, 5), n.integers(*pads), mode=mode))
    n.output(n("Pad", n.input(2, 3, 5, 4), n.integers(0, 0, *pads[:2], 0, 0, *pads[2:]), mode=mode))
    compare(n.model())


@pytest.mark.parametrize(
    ("mode", "pads"), [("reflect", [5, 0]), ("reflect", [2, -1]), ("wrap", [0, 6]), ("edge", [-1, 0])]
)
def test_pads_beyond_the_source_have_no_kernel(mode: str, pads: list[int]) -> None:
    x, y = Value("x", Type.f32, (5,)), Value("y", Type.f32, (5 + sum(pads),))
    node = Node("Pad", "p", [x, Value.of("pads", np.array(pads))], [y], {"mode": mode}, "", 19)
    assert find_lowering(node) == f"Pad has no kernel for pads {pads} of 5 elements in the mode '{mode}'"
