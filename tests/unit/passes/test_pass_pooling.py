"""Pools with every attribute present; means over all spatial axes as pools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise
from support.interpreter import pool

from cpuruntime import passes
from cpuruntime.errors import ModelError

NAME = "pooling"


@pytest.mark.parametrize(
    ("op_type", "attributes", "expected"),
    [
        ("MaxPool", {}, {"storage_order": 0}),
        ("MaxPool", {"strides": [2, 1], "pads": [1, 0, 0, 1]}, {"storage_order": 0}),
        ("MaxPool", {"dilations": [2, 1], "ceil_mode": 1, "strides": [2, 2]}, {"storage_order": 0}),
        ("AveragePool", {"pads": [1, 1, 1, 1]}, {"count_include_pad": 0}),
        ("AveragePool", {"pads": [1, 1, 1, 1], "count_include_pad": 1}, {"count_include_pad": 1}),
        ("LpPool", {"p": 17}, {"p": 17}),
    ],
)
def test_every_attribute_is_present(op_type: str, attributes: dict[str, Any], expected: dict[str, int]) -> None:
    b = Builder(opset=11)
    after = optimise(b.graph(b(op_type, b.input(2, 3, 7, 8), kernel_shape=[3, 2], **attributes)), NAME)
    assert node_of(after, op_type).attributes == {
        "kernel_shape": [3, 2],
        "strides": attributes.get("strides", [1, 1]),
        "dilations": attributes.get("dilations", [1, 1]),
        "pads": attributes.get("pads", [0, 0, 0, 0]),
        "ceil_mode": attributes.get("ceil_mode", 0),
        **expected,
    }


@pytest.mark.parametrize(
    ("op_type", "dtype", "outputs", "power"),
    [("LpPool", np.float32, 1, 3), ("MaxPool", np.float64, 1, 0), ("MaxPool", np.uint8, 2, 0)],
)
def test_a_pool_of_the_plain_layout(op_type: str, dtype: type, outputs: int, power: int) -> None:
    b = Builder(opset=18)
    attributes = dict(kernel_shape=[3, 2], pads=[1, 0, 0, 1], **({"p": power} if power else {}))
    b.output(*b.many(outputs, op_type, b.input(2, 3, 7, 8, dtype=dtype), **attributes))
    after = optimise(b.graph(), NAME)
    assert attributes_of(after, "WindowPool", "power", "pads", "strides") == [power, [1, 0, 0, 1], [1, 1]]


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("auto_pad", "pads"), [("SAME_UPPER", [1, 2]), ("SAME_LOWER", [2, 1]), ("VALID", [0, 0])])
def test_automatic_padding(op_type: str, auto_pad: str, pads: list[int]) -> None:
    b = Builder()
    graph = b.graph(b(op_type, b.input(1, 2, 7), kernel_shape=[4], strides=[2], auto_pad=auto_pad))
    after = passes.run(graph, stop_after=NAME)
    assert attributes_of(after, op_type, "pads", "ceil_mode") == [pads, 0]
    assert "auto_pad" not in node_of(after, op_type).attributes
    if (op_type, auto_pad) != ("MaxPool", "SAME_LOWER"):  # whose size onnx.reference gets wrong
        optimise(graph, NAME)


def test_same_padding_needs_no_ceil_mode() -> None:
    b = Builder()
    attributes = {"kernel_shape": [3], "strides": [2], "auto_pad": "SAME_UPPER", "ceil_mode": 1}
    after = passes.run(b.graph(b("MaxPool", b.input(1, 2, 8), **attributes)), stop_after=NAME)
    assert attributes_of(after, "MaxPool", "ceil_mode", "pads") == [0, [0, 1]]


@pytest.mark.parametrize("read", [False, True])
def test_indices_go_when_nobody_reads_them(read: bool) -> None:
    b = Builder()
    y, indices = b.many(2, "MaxPool", b.input(1, 2, 6), kernel_shape=[2])
    b.output(y, *[indices][: int(read)])
    after = optimise(b.graph(), NAME)
    assert len(after.nodes[0].outputs) == 1 + read


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [11, 18])
def test_the_mean_over_spatial_axes_is_a_global_pool(axes: list[int], keepdims: int, opset: int) -> None:
    b = Builder(opset)
    x = b.input(2, 3, 4, 5)
    if opset == 11:
        y = b("ReduceMean", x, axes=axes, keepdims=keepdims)
    else:
        y = b("ReduceMean", x, b.integers(*axes), keepdims=keepdims)
    assert kinds(optimise(b.graph(y), NAME)) == ["GlobalAveragePool", "+Reshape"][: 2 - keepdims]


@pytest.mark.parametrize("axes", [[1, 2], [1, 2, 3], [3], [0, 2, 3]])
def test_other_means_stay(axes: list[int]) -> None:
    b = Builder(opset=11)
    assert kinds(optimise(b.graph(b("ReduceMean", b.input(2, 3, 4, 5), axes=axes)), NAME)) == ["ReduceMean"]


def test_means_of_other_types_are_sums_by_a_count() -> None:
    b = Builder(opset=11)
    graph = b.graph(b("ReduceMean", b.input(2, 3, 4, 5, dtype=np.float64), axes=[2, 3]))
    assert kinds(optimise(graph, NAME)) == ["ReduceSum", "Div"]


def test_the_kernel_must_fit_the_rank() -> None:
    b = Builder()
    graph = b.graph(b("MaxPool", b.input(1, 2, 6, 6), kernel_shape=[2, 2]))
    graph.inputs[0].shape = (1, 2, 6)
    with pytest.raises(ModelError, match=r"kernel_shape \[2, 2\]; 1 spatial axes"):
        passes.run(graph)


@pytest.mark.parametrize("attributes", [{"ceil_mode": 1}, {"ceil_mode": 1, "pads": [1, 0]}, {"pads": [1, 1]}])
@pytest.mark.parametrize("extra", [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})])
def test_the_interpreter_that_judges_whole_models(
    attributes: dict[str, Any], extra: tuple[str, dict[str, int]]
) -> None:
    """Its own pools agree with onnx.reference."""
    b = Builder(opset=19)
    op_type, more = extra
    graph = b.graph(b(op_type, b.input(1, 2, 8), kernel_shape=[3], strides=[2], **attributes, **more))
    node = passes.run(graph, stop_after=NAME).nodes[0]
    x = np.random.default_rng(0).standard_normal((1, 2, 8), np.float32)
    np.testing.assert_allclose(pool(node, x), passes.evaluate(node, [x])[0], 1e-5, 1e-6)
