"""Conv with every attribute present and explicit padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise

from cpuruntime import passes
from cpuruntime.errors import ModelError
from cpuruntime.graph import Type

NAME = "convolution"


@pytest.mark.parametrize(
    ("shape", "weights", "attributes", "pads"),
    [
        ((1, 3, 8, 9), (4, 3, 3, 3), {}, [0, 0, 0, 0]),
        ((2, 4, 9), (6, 4, 3), {"pads": [1, 2], "strides": [2]}, [1, 2]),
        ((1, 2, 5, 6, 7), (3, 2, 3, 1, 2), {"pads": [1, 0, 1, 0, 0, 1]}, [1, 0, 1, 0, 0, 1]),
        ((1, 4, 8, 8), (6, 2, 3, 3), {"group": 2, "dilations": [2, 1], "kernel_shape": [3, 3]}, [0, 0, 0, 0]),
        ((1, 4, 6, 6), (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}, [1, 1, 1, 1]),
        ((1, 3, 8, 8), (4, 3, 2, 2), {"auto_pad": "VALID", "strides": [2, 1]}, [0, 0, 0, 0]),
        ((1, 3, 8, 8), (4, 3, 3, 3), {"auto_pad": "NOTSET", "pads": [0, 1, 2, 3]}, [0, 1, 2, 3]),
    ],
)
def test_every_attribute_is_present(
    shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any], pads: list[int]
) -> None:
    b = Builder()
    after = optimise(
        b.graph(b("Conv", b.input(*shape), b.weights(*weights), b.weights(weights[0]), **attributes)), NAME
    )
    rank = len(shape) - 2
    assert kinds(after) == ["+Conv"]
    assert node_of(after, "Conv").attributes == {
        "kernel_shape": list(weights[2:]),
        "strides": attributes.get("strides", [1] * rank),
        "dilations": attributes.get("dilations", [1] * rank),
        "pads": pads,
        "group": attributes.get("group", 1),
        "activation": "",
        "activation_arguments": [],
    }
    assert len(node_of(after, "Conv").inputs) == 4


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("extent", [7, 8])
def test_same_padding(auto_pad: str, kernel: int, stride: int, extent: int) -> None:
    b = Builder()
    x, w = b.input(1, 2, extent), b.weights(3, 2, kernel)
    graph = b.graph(b("Conv", x, w, auto_pad=auto_pad, strides=[stride]))
    after = passes.run(graph, stop_after=NAME)
    begin, end = attributes_of(after, "Conv", "pads")[0]
    assert graph.outputs[0].shape == (1, 3, -(-extent // stride))
    total = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
    assert begin + end == total
    assert (end - begin if auto_pad == "SAME_UPPER" else begin - end) == total % 2
    optimise(graph, NAME)


def test_same_padding_of_dilated_kernels() -> None:
    b = Builder()
    graph = b.graph(b("Conv", b.input(1, 1, 9), b.weights(1, 1, 3), auto_pad="SAME_UPPER", dilations=[2]))
    after = passes.run(graph, stop_after=NAME)
    assert attributes_of(after, "Conv", "pads", "dilations") == [[2, 2], [2]]
    assert after.outputs[0].shape == (1, 1, 9)


def test_with_computed_weights_it_is_a_product_of_the_pixels_under_each_of_them() -> None:
    b = Builder()
    after = optimise(b.graph(b("Conv", b.input(1, 2, 5, 5), b.input(3, 2, 3, 3))), NAME)
    assert kinds(after).count("Slice") == 9
    assert kinds(after)[-2:] == ["MatMul", "+Reshape"]


def test_with_float64_it_is_a_product_of_that_type() -> None:
    b = Builder()
    graph = b.graph(b("Conv", b.input(1, 2, 5, dtype=np.float64), b.constant(np.ones((3, 2, 3)), np.float64)))
    assert "MatMul" in kinds(passes.run(graph))


def test_unknown_extents_stay_where_the_padding_needs_them() -> None:
    b = Builder()
    x, w = b.input(1, 2, None), b.weights(3, 2, 3)
    after = passes.run(b.graph(b("Conv", x, w, auto_pad="SAME_UPPER"), b("Conv", x, w, pads=[1, 1])), stop_after=NAME)
    assert kinds(after) == ["Conv", "+Conv"]


def test_ranks_must_agree() -> None:
    b = Builder()
    graph = b.graph(b("Conv", b.input(1, 2, 5, 5), b.weights(3, 2, 3, 3)))
    graph.inputs[0].shape = (1, 2, 5)
    with pytest.raises(ModelError, match=r"Conv 'n0' \(opset 13\): the input has rank 3, the weights 4"):
        passes.run(graph)


def test_attributes_must_fit_the_rank() -> None:
    b = Builder()
    graph = b.graph(b("Conv", b.input(1, 2, 5, 5), b.weights(3, 2, 3, 3)))
    graph.nodes[0].attributes["strides"] = [1]
    with pytest.raises(ModelError, match=r"strides \[1\] has 1 entries; 2 spatial axes need 2"):
        passes.run(graph)


def test_a_shape_that_contradicts_the_attributes() -> None:
    b = Builder()
    graph = b.graph(b("Conv", b.input(1, 2, 5, 5), b.weights(3, 2, 3, 3)))
    graph.outputs[0].shape = (1, 3, 4, 3)
    with pytest.raises(ModelError, match=r"give the shape \[1, 3, 3, 3\], not \[1, 3, 4, 3\]"):
        passes.run(graph)
    assert graph.outputs[0].element_type is Type.f32
