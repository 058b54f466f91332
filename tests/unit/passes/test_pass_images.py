"""Chains from bytes to floats become one Image, in any order of steps, and other chains stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, optimise

from cpuruntime.graph import Value

NAME = "images"
Steps = Callable[[Builder, Value], Value]
LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


def resize(b: Builder, x: Value, *sizes: int, **attributes: Any) -> Value:
    return b("Resize", x, None, None, b.integers(*sizes), **(attributes or LINEAR))


def reverse(b: Builder, x: Value, axis: int) -> Value:
    return b("Slice", x, b.integers(-1), b.integers(-(2**63)), b.integers(axis), b.integers(-1))


def cast(b: Builder, x: Value, to: int = 1) -> Value:
    return b("Cast", x, to=to)


def to_bytes(b: Builder, x: Value) -> Value:
    return cast(b, b("Clip", b("Round", x), b.constant(0), b.constant(255)), 2)


def normalised(b: Builder, x: Value, *shape: int) -> Value:
    mean, scale = b.constant(np.reshape([10, 20, 30], shape)), b.constant(np.reshape([2, 3, 4], shape))
    return b("Div", b("Sub", x, mean), scale)


def planar(b: Builder, x: Value) -> Value:
    return b("Transpose", x, perm=[0, 3, 1, 2])


def whole(b: Builder, x: Value) -> Value:
    y = to_bytes(b, resize(b, cast(b, planar(b, x)), 2, 3, 7, 5))
    y = reverse(b, b("Transpose", y, perm=[0, 2, 3, 1]), 3)
    return planar(b, normalised(b, cast(b, y), 1, 1, 1, 3))


FUSED: list[tuple[list[int], Steps]] = [
    ([2, 6, 8, 3], whole),
    ([1, 6, 8, 3], lambda b, x: planar(b, normalised(b, cast(b, x), 3))),
    ([1, 6, 8, 3], lambda b, x: normalised(b, planar(b, cast(b, x)), 3, 1, 1)),
    ([2, 3, 6, 8], lambda b, x: normalised(b, cast(b, x), 1, 3, 1, 1)),
    ([2, 3, 6, 8], lambda b, x: normalised(b, resize(b, cast(b, reverse(b, x, 1)), 2, 3, 9, 5), 1, 3, 1, 1)),
    ([1, 6, 8, 3], lambda b, x: b("Transpose", cast(b, x), perm=[2, 1, 0, 3])),
    ([1, 6, 8, 4], lambda b, x: planar(b, cast(b, b("Slice", x, *(b.integers(n) for n in (0, -1, 3, 1)))))),
    ([1, 6, 8, 4], lambda b, x: planar(b, cast(b, b("Slice", x, *(b.integers(n) for n in (1, 3, 1, 1)))))),
    ([2, 3, 6, 8], lambda b, x: resize(b, cast(b, b("Transpose", x, perm=[1, 0, 2, 3])), 3, 2, 3, 3)),
    ([2, 1, 6, 8], lambda b, x: resize(b, cast(b, x), 2, 1, 3, 4, mode="cubic", exclude_outside=1)),
    ([1, 6, 8, 3], lambda b, x: resize(b, planar(b, cast(b, x)), 1, 3, 3, 11, mode="nearest")),
    ([1, 6, 8, 3], lambda b, x: b("Sub", planar(b, cast(b, x)), b.constant(127.5))),
]


@pytest.mark.parametrize(("shape", "steps"), FUSED)
def test_chains_become_one(shape: list[int], steps: Steps) -> None:
    b = Builder(opset=19)
    graph = b.graph(steps(b, b.input(*shape, dtype=np.uint8)))
    after = optimise(graph, NAME)
    assert kinds(after) == ["+Image"]
    assert after.nodes[0].origins == [node.name for node in graph.nodes]


def test_what_an_image_says() -> None:
    b = Builder(opset=19)
    after = optimise(b.graph(whole(b, b.input(2, 6, 8, 3, dtype=np.uint8))), NAME)
    names = ("axes", "order", "first", "step", "rounds", "mode")
    assert attributes_of(after, "Image", *names) == [[0, 3, 1, 2], [0, 1, 2, 3], 2, -1, 1, "linear"]


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        (lambda b, x: b("Div", normalised(b, planar(b, cast(b, x)), 3, 1, 1), b.constant(2)), ["Div"]),
        (lambda b, x: reverse(b, normalised(b, planar(b, cast(b, x)), 3, 1, 1), 1), ["Slice"]),
        (lambda b, x: resize(b, b("Sub", planar(b, cast(b, x)), b.constant(3)), 1, 3, 3, 3), ["Resize"]),
        (lambda b, x: b("Round", resize(b, planar(b, cast(b, x)), 1, 3, 3, 3)), ["Round"]),
        (lambda b, x: b("Neg", planar(b, cast(b, x))), ["Neg"]),
    ],
)
def test_what_does_not_fit_stays_behind(steps: Steps, last: list[str]) -> None:
    b = Builder(opset=19)
    after = optimise(b.graph(steps(b, b.input(1, 6, 8, 3, dtype=np.uint8))), NAME)
    assert kinds(after) == ["+Image", *last]


@pytest.mark.parametrize(
    "steps",
    [
        cast,
        lambda b, x: b("Transpose", x, perm=[0, 3, 1, 2]),
        lambda b, x: b("Transpose", cast(b, x, 7), perm=[0, 3, 1, 2]),
        lambda b, x: cast(b, reverse(b, reverse(b, x, 3), 2)),
    ],
)
def test_what_is_no_image_s_way(steps: Steps) -> None:
    b = Builder(opset=19)
    assert "+Image" not in kinds(optimise(b.graph(steps(b, b.input(1, 6, 8, 3, dtype=np.uint8))), NAME))


def test_rows_that_are_not_contiguous_are_made_so_first() -> None:
    b = Builder(opset=19)
    x = b("Transpose", b.input(1, 6, 8, 3, dtype=np.uint8), perm=[0, 3, 2, 1])
    assert kinds(optimise(b.graph(resize(b, cast(b, x), 1, 3, 4, 4)), NAME)) == ["Transpose", "+Image"]


def test_values_that_are_read_elsewhere_stay() -> None:
    b = Builder(opset=19)
    floats = cast(b, b.input(1, 6, 8, 3, dtype=np.uint8))
    after = optimise(b.graph(b("Neg", floats), planar(b, floats)), NAME)
    assert sorted(kinds(after)) == ["Cast", "Neg", "Transpose"]
