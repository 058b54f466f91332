"""Convolutions do the padding of a Pad before them."""

from __future__ import annotations

import pytest
from support.graphs import Builder, attributes_of, kinds, optimise

from cpuruntime import passes

NAME = "pad_into_convolution"


@pytest.mark.parametrize("opset", [9, 13])
def test_the_pads_add_up(opset: int) -> None:
    b = Builder(opset)
    x, pads = b.input(1, 2, 5, 6), [0, 0, 1, 0, 0, 0, 2, 3]
    padded = b("Pad", x, pads=pads) if opset == 9 else b("Pad", x, b.integers(*pads))
    after = optimise(b.graph(b("Conv", padded, b.weights(3, 2, 3, 3), pads=[0, 1, 0, 1])), NAME)
    assert kinds(after) == ["+Conv"]
    assert attributes_of(after, "Conv", "pads") == [[1, 1, 2, 4]]
    assert after.nodes[0].origins == ["n0", "n1"]


def test_axes_and_an_explicit_zero() -> None:
    b = Builder(opset=18)
    padded = b("Pad", b.input(1, 2, 5, 6), b.integers(1, 2), b.constant(0.0), b.integers(-1))
    after = optimise(b.graph(b("Conv", padded, b.weights(3, 2, 1, 1))), NAME)
    assert kinds(after) == ["+Conv"]
    assert attributes_of(after, "Conv", "pads") == [[0, 1, 0, 2]]


def test_several_convolutions() -> None:
    b = Builder()
    padded = b("Pad", b.input(1, 2, 5), b.integers(0, 0, 1, 0, 0, 1))
    b.output(b("Conv", padded, b.weights(3, 2, 3)), b("Conv", padded, b.weights(3, 2, 1)))
    assert kinds(optimise(b.graph(), NAME)) == ["+Conv", "+Conv"]


@pytest.mark.parametrize(
    ("pads", "extra", "mode"),
    [
        ([0, 0, 1, 0, 0, 1], [1.0], "constant"),
        ([0, 0, 1, 0, 0, 1], [], "reflect"),
        ([0, 1, 0, 0, 0, 1], [], "constant"),
        ([1, 0, 0, 0, 0, 1], [], "constant"),
    ],
)
def test_other_pads_stay(pads: list[int], extra: list[float], mode: str) -> None:
    b = Builder()
    padded = b("Pad", b.input(1, 2, 5), b.integers(*pads), *map(b.constant, extra), mode=mode)
    channels = 2 + pads[1] + pads[4]
    after = optimise(b.graph(b("Conv", padded, b.weights(3, channels, 1))), NAME)
    assert kinds(after) == ["Pad", "+Conv"]


def test_a_pad_that_crops_stays() -> None:
    b = Builder()
    padded = b("Pad", b.input(1, 2, 5), b.integers(0, 0, -1, 0, 0, 1))
    after = passes.run(b.graph(b("Conv", padded, b.weights(3, 2, 1))), stop_after=NAME)  # onnx.reference cannot run it
    assert kinds(after) == ["Pad", "+Conv"]


def test_a_pad_that_others_read_stays() -> None:
    b = Builder()
    padded = b("Pad", b.input(1, 2, 5), b.integers(0, 0, 1, 0, 0, 1))
    b.output(b("Conv", padded, b.weights(3, 2, 3)), b("Neg", padded))
    assert kinds(optimise(b.graph(), NAME)) == ["Pad", "+Conv", "Neg"]


def test_a_pad_that_is_an_output_stays() -> None:
    b = Builder()
    padded = b("Pad", b.input(1, 2, 5), b.integers(0, 0, 1, 0, 0, 1))
    assert kinds(optimise(b.graph(b("Conv", padded, b.weights(3, 2, 3)), padded), NAME)) == ["Pad", "+Conv"]
