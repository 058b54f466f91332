"""Convolutions and pools of volumes as those of images: which operators come out, by the form of the kernel."""

from __future__ import annotations

from typing import Any

import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise

NAME = "no_ops_after_volumes"


def test_layers_under_the_kernel_become_channels() -> None:
    b = Builder()
    x = b.input(2, 4, 5, 6, 7)
    y = b("Relu", b("Conv", x, b.weights(8, 4, 3, 3, 3), b.weights(8), pads=[1] * 6, strides=[2, 1, 1]))
    graph = optimise(b.graph(y), NAME)
    assert kinds(graph) == [
        "Transpose", "Pad", "Slice", "+Reshape", "Slice", "+Reshape", "Slice", "+Reshape", "Concat", "+Reshape",
        "+Conv>Relu", "+Reshape", "Transpose",
    ]  # fmt: skip
    assert [value.shape for value in node_of(graph, "Conv").inputs[:2]] == [(6, 12, 6, 7), (8, 12, 3, 3)]
    assert attributes_of(graph, "Conv", "pads", "strides") == [[1, 1, 1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("kernel", "options"), [((1, 1, 1), {}), ((3, 1, 1), dict(strides=[2, 1, 1], pads=[1, 0, 0, 0, 0, 0]))]
)
def test_kernels_along_depth_move_nothing(kernel: tuple[int, ...], options: dict[str, Any]) -> None:
    b = Builder()
    y = b("Conv", b.input(2, 4, 5, 6, 7), b.weights(8, 4, *kernel), **options)
    graph = optimise(b.graph(y), NAME)
    assert kinds(graph) == ["+Reshape", "+Conv", "+Reshape"]
    assert node_of(graph, "Conv").inputs[0].shape == (2, 4, 5, 42)


def test_nothing_is_moved_back_and_forth_between_convolutions() -> None:
    b = Builder()
    y = b("Conv", b.input(2, 4, 5, 6, 7), b.weights(8, 4, 1, 3, 3))
    graph = optimise(b.graph(b("Conv", y, b.weights(6, 8, 1, 3, 3))), NAME)
    assert kinds(graph) == ["Transpose", "+Reshape", "+Conv", "+Conv", "+Reshape", "Transpose"]


def test_pools_work_along_two_axes_then_along_one() -> None:
    b = Builder()
    y = b("MaxPool", b.input(2, 4, 6, 6, 8), kernel_shape=[3, 2, 2], strides=[3, 2, 2])
    graph = optimise(b.graph(y), NAME)
    assert kinds(graph) == ["+Reshape", "MaxPool", "+Reshape", "MaxPool", "+Reshape"]
    assert [node.attributes["kernel_shape"] for node in graph.nodes if node.op_type == "MaxPool"] == [[2, 2], [3, 1]]
