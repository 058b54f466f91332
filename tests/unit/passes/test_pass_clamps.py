"""Chains of Relu, Clip, Max and Min become one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime.graph import Value
from cpuruntime.passes.simplify.clamps import clip_bounds

NAME = "clamps"


def clip(b: Builder, x: Value, low: float | None, high: float | None) -> Value:
    return b("Clip", x, *[None if bound is None else b.constant(bound) for bound in (low, high)])


CHAINS: dict[str, tuple[Callable[[Builder, Value], Value], list[float] | None]] = {
    "Max, Min": (lambda b, x: b("Min", b("Max", x, b.constant(0.0)), b.constant(6.0)), [0, 6]),
    "Min, Max": (lambda b, x: b("Max", b.constant([-1.0]), b("Min", b.constant(1.0), x)), [-1, 1]),
    "Max": (lambda b, x: b("Max", x, b.constant(0.25)), [0.25, np.inf]),
    "Max of 0": (lambda b, x: b("Max", b.constant(0.0), x), None),
    "Relu, Relu": (lambda b, x: b("Relu", b("Relu", x)), None),
    "Relu, Clip": (lambda b, x: clip(b, b("Relu", x), -1, 1), [0, 1]),
    "Clip, Relu": (lambda b, x: b("Relu", clip(b, x, -1, 1)), [0, 1]),
    "disjoint": (lambda b, x: clip(b, clip(b, x, 2, 3), 0, 1), [1, 1]),
    "low above high": (lambda b, x: clip(b, clip(b, x, 1, -1), -2, 2), [1, -1]),
    "three": (lambda b, x: clip(b, b("Min", b("Relu", x), b.constant(1.0)), 0.5, None), [0.5, 1]),
}


@pytest.mark.parametrize(("make", "bounds"), CHAINS.values(), ids=CHAINS)
def test_one_node_for_a_chain(make: Callable[[Builder, Value], Value], bounds: list[float] | None) -> None:
    b = Builder()
    after = optimise(b.graph(make(b, b("Neg", b.input(5, 40)))), NAME)
    assert kinds(after) == ["Neg", "Relu" if bounds is None else "Clip"]
    if bounds is not None:
        assert clip_bounds(after.nodes[1]) == bounds
    assert "n1" in after.nodes[1].origins


def test_a_lone_clip_or_relu_stays() -> None:
    b = Builder()
    x = b.input(2, 3)
    after = optimise(b.graph(clip(b, x, None, 6), b("Relu", x)), NAME)
    assert [node.name for node in after.nodes] == ["n0", "n1"]
    assert after.nodes[0].version == 13


def test_what_others_read_stays() -> None:
    b = Builder()
    y = b("Relu", b.input(2, 3))
    after = optimise(b.graph(clip(b, y, -1, 1), b("Neg", y)), NAME)
    assert kinds(after) == ["Relu", "Clip", "Neg"]


@pytest.mark.parametrize("operand", ["vector", "data", "rank", "integer"])
def test_other_maxima_stay(operand: str) -> None:
    b = Builder()
    x = b.input(2, 3, dtype=np.int32 if operand == "integer" else np.float32)
    if operand == "data":
        other = b.input(1)
    elif operand == "integer":
        other = b.constant(1, np.int32)
    else:
        other = b.constant([0.0, 1.0, 2.0] if operand == "vector" else [[[1.0]]])
    assert kinds(optimise(b.graph(b("Max", x, other)), NAME)) == ["Max"]


def test_bounds_that_are_data_stay() -> None:
    b = Builder()
    x = b("Relu", b.input(2, 3))
    assert kinds(optimise(b.graph(b("Clip", x, b.input())), NAME)) == ["Relu", "Max"]
