"""Gathering and scattering by indices, the best elements, cumulative sums: each computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import Net, compare

import cpuruntime as ov
from cpuruntime.errors import InvalidArgumentError, ModelError


def indices(shape: tuple[int, ...], extent: int, dtype: Any = np.int64, seed: int = 0) -> np.ndarray:
    """Valid indices, half of them negative."""
    return np.random.default_rng(seed).integers(-extent, extent, shape).astype(dtype)


def numbers(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return (10 * np.random.default_rng(1).standard_normal(shape)).astype(dtype)


def out_of_range(op: str) -> tuple[Net, dict[str, np.ndarray], str]:
    n = Net(opset=18)
    x = n.input(4, 5)
    feeds = {"x0": numbers((4, 5))}
    if op == "GatherND":
        n.output(n(op, x, n.input(3, 2, dtype=np.int64)))
        return n, feeds | {"x1": np.array([[0, 0], [3, 5], [1, 1]])}, "between -4 and 3, -5 and 4"
    if op == "ScatterND":
        n.output(n(op, x, n.input(2, 1, dtype=np.int64), n.input(2, 5)))
        return n, feeds | {"x1": np.array([[-5], [1]]), "x2": numbers((2, 5))}, "between -4 and 3"
    where = n.input(2, 2, dtype=np.int64)
    n.output(n(op, x, where, n.input(2, 2), axis=1) if op == "ScatterElements" else n(op, x, where, axis=1))
    feeds |= {"x1": np.array([[0, 1], [2, 1 << 40]])}
    return n, feeds | ({"x2": numbers((2, 2))} if op == "ScatterElements" else {}), "between -5 and 4"


@pytest.mark.parametrize("op", ["GatherElements", "GatherND", "ScatterElements", "ScatterND"])
def test_indices_out_of_range_are_errors(op: str) -> None:
    n, feeds, rule = out_of_range(op)
    compiled = ov.Core().compile_model(n.model(), "CPU")
    assert not compiled.explain().fallbacks
    with pytest.raises(InvalidArgumentError, match=rf"{op} 'n0_{op}' .*'x1' is out of range; .*{rule}"):
        compiled(feeds)
    compiled(feeds | {"x1": np.zeros_like(feeds["x1"])})


def test_shapes_that_do_not_fit_are_errors() -> None:
    n = Net()
    n.output(n("GatherElements", n.input(4, 5), n.input(6, 2, dtype=np.int64), axis=1))
    with pytest.raises(ModelError, match=r"extent 6 .* > extent 4"):
        ov.Core().compile_model(n.model(), "CPU")


def test_top_k_of_half_the_results() -> None:
    n = Net()
    x = n.input(4, 50)
    both = n.many(2, "TopK", x, n.integers(5))
    n.output(n.many(2, "TopK", x, n.integers(3), largest=0)[1], both[0])
    compare(n.model())


def test_positions_from_a_mask() -> None:
    """As transformers number the tokens that are not padding."""
    n = Net()
    mask = n("Cast", n.input(2, 20, dtype=np.bool_), to=7)
    n.output(n("Add", n("Mul", n("CumSum", mask, n.constant(1, np.int64)), mask), n.constant(1, np.int64)))
    compare(n.model())
