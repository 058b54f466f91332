"""Old forms of operators become the newer ones."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, node_of, optimise, random_inputs
from support.interpreter import interpret

from cpuruntime import passes

NAME = "default_attributes"  # defaults of the new form complete it


@pytest.mark.parametrize("limits", [{}, {"min": -0.5}, {"max": 0.5}, {"min": -0.5, "max": 0.5}])
def test_clip_takes_its_limits_as_inputs(limits: dict[str, float]) -> None:
    b = Builder(opset=9)
    after = optimise(b.graph(b("Clip", b.input(3, 4), **limits)), NAME)
    node = node_of(after, "Clip")
    assert node.version == 13
    assert not node.attributes
    found = [node.input(1), node.input(2)]
    assert [None if value is None else float(value.constant) for value in found] == [
        limits.get("min"),
        limits.get("max"),
    ]


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(mode: str) -> None:
    b = Builder(opset=9)
    after = optimise(b.graph(b("Pad", b.input(2, 5), pads=[0, 1, 0, 2], mode=mode, value=1.5)), NAME)
    node = node_of(after, "Pad")
    assert node.inputs[1].constant.tolist() == [0, 1, 0, 2]
    assert node.inputs[2].constant == 1.5
    assert node.attributes == {"mode": mode}


@pytest.mark.parametrize("axes", [{}, {"axes": [1, 0]}])
def test_slice(axes: dict[str, list[int]]) -> None:
    b = Builder(opset=9)
    after = optimise(b.graph(b("Slice", b.input(4, 5), starts=[1, 0], ends=[1000, -1], **axes)), NAME)
    node = node_of(after, "Slice")
    assert [value.constant.tolist() for value in node.inputs[1:]] == [[1, 0], [1000, -1], *axes.values()]


@pytest.mark.parametrize(
    ("opset", "attributes", "sizes"),
    [
        (9, {"axis": 1}, [2, 2, 2]),
        (9, {"axis": -1, "split": [1, 2, 3]}, [1, 2, 3]),
        (18, {"num_outputs": 3}, [2, 2, 2]),
    ],
)
def test_split_states_its_sizes(opset: int, attributes: dict[str, object], sizes: list[int]) -> None:
    b = Builder(opset)
    after = optimise(b.graph(*b.many(3, "Split", b.input(6, 6), **attributes)), NAME)
    assert node_of(after, "Split").inputs[1].constant.tolist() == sizes
    assert "num_outputs" not in node_of(after, "Split").attributes


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"])
@pytest.mark.parametrize("axes", [{}, {"axes": [0, -1]}])
def test_reductions_take_their_axes_as_an_input(op_type: str, axes: dict[str, list[int]]) -> None:
    b = Builder(opset=11)
    after = optimise(b.graph(b(op_type, b.input(2, 3, 4), keepdims=0, **axes)), NAME)
    node = node_of(after, op_type)
    assert node.attributes == {"keepdims": 0, "noop_with_empty_axes": 0}
    assert [value.constant.tolist() for value in node.inputs[1:]] == list(axes.values())


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9])
def test_upsample_is_a_resize(opset: int, mode: str) -> None:
    b = Builder(opset)
    scales = [1.0, 1.0, 2.0, 3.0]
    x = b.input(1, 2, 3, 4)
    y = b("Upsample", x, scales=scales, mode=mode) if opset == 7 else b("Upsample", x, b.constant(scales), mode=mode)
    after = passes.run(b.graph(y), stop_after=NAME)  # onnx.reference cannot run the original
    node = node_of(after, "Resize")
    assert node.attributes["coordinate_transformation_mode"] == "asymmetric"
    assert node.attributes["mode"] == mode
    feeds = random_inputs(after)
    found = interpret(after, feeds)["n0_Upsample"]
    for axis, scale in ((2, 2), (3, 3)):
        at = np.minimum(np.arange(feeds["x0"].shape[axis] * scale) / scale, feeds["x0"].shape[axis] - 1)
        low = np.floor(at).astype(int)
        weight = (at - low if mode == "linear" else np.zeros(len(at))).reshape(-1, *[1] * (3 - axis))
        lower = feeds["x0"].take(low, axis)
        upper = feeds["x0"].take(np.minimum(low + 1, feeds["x0"].shape[axis] - 1), axis)
        feeds["x0"] = lower * (1 - weight) + upper * weight
    np.testing.assert_allclose(found, feeds["x0"], 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("scales", "rounding"), [([1, 1, 0.5, 0.8], "ceil"), ([1, 1, 2, 3], "floor"), ([1, 1, 0.5, 2], None)]
)
def test_a_resize_of_opset_10_rounds_up_where_it_shrinks(scales: list[float], rounding: str | None) -> None:
    """As ONNX Runtime does; one that grows and shrinks stays."""
    b = Builder(10)
    y = b("Resize", b.input(1, 2, 4, 5), b.constant(scales), mode="nearest")
    node = node_of(passes.run(b.graph(y), stop_after=NAME), "Resize")
    assert node.attributes.get("nearest_mode") == rounding
    assert node.version == (10 if rounding is None else 13)


def test_what_is_current_stays() -> None:
    b = Builder(opset=18)
    x = b.input(2, 3)
    b.output(b("Clip", x, b.constant(0.0)), b("ReduceMean", x, b.integers(1)), b("Pad", x, b.integers(0, 1, 0, 1)))
    b.output(b("Slice", x, b.integers(0), b.integers(1)), *b.many(2, "Split", x, b.integers(1, 1), axis=0))
    after = optimise(b.graph(), "current_forms")
    assert kinds(after) == ["Clip", "ReduceMean", "Pad", "Slice", "Split"]
    assert [node.version for node in after.nodes] == [18] * 5


def test_limits_keep_their_type() -> None:
    b = Builder(opset=9)
    after = optimise(b.graph(b("Clip", b.input(3, dtype=np.float64), max=6.0)), NAME)
    assert node_of(after, "Clip").inputs[2].constant.dtype == np.float64
