"""Layouts, and the batch of a model that they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, Layout, PartialShape, layout_helpers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("NCHW", "[N,C,H,W]"),
        ("nchw", "[N,C,H,W]"),
        ("[n,c,h,w]", "[N,C,H,W]"),
        ("N...C", "[N,...,C]"),
        ("...NC", "[...,N,C]"),
        ("N?HW", "[N,?,H,W]"),
        ("??", "[?,?]"),
        ("[N,...,CUSTOM,W]", "[N,...,CUSTOM,W]"),
        ("[batch,height,width,channels,depth]", "[N,H,W,C,D]"),
        ("5", "[5]"),
        ("", "[...]"),
        ("...", "[...]"),
        ("**SCALAR**", "**SCALAR**"),
    ],
)
def test_layouts_are_written_as_openvino_s(text: str, shown: str) -> None:
    layout = Layout(text)
    assert str(layout) == layout.to_string() == shown
    assert repr(layout) == f"<Layout: {shown}>"
    assert layout == Layout(shown) == shown
    assert layout.empty == (shown == "[...]")


@pytest.mark.parametrize("text", ["NN", "N..C", "**", "[]", "N C", "[N,C]H", "N......C", "[N;C]", "N\nC", "[N,,C]"])
def test_what_is_no_layout(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Layout name is invalid"):
        Layout(text)


def test_dimensions_are_found_by_name() -> None:
    layout = Layout("N...HWC")
    assert [layout.has_name(name) for name in ("N", "n", "batch", "D", "W")] == [True, True, True, False, True]
    assert [layout.get_index_by_name(name) for name in ("N", "height", "W", "c")] == [0, -3, -2, -1]
    assert Layout("NCHW").get_index_by_name("C") == 1
    with pytest.raises(InvalidArgumentError, match=r"No dimension of layout .* is called 'D'"):
        layout.get_index_by_name("D")
    assert Layout() == Layout("...") != Layout("NC") != Layout.scalar()
    assert str(Layout.scalar()) == "**SCALAR**"
    with pytest.raises(TypeError):
        Layout(5)  # type: ignore[arg-type]
    assert layout_helpers.has_batch(layout)
    assert not layout_helpers.has_depth(layout)
    assert (layout_helpers.batch_idx(layout), layout_helpers.channels_idx(layout)) == (0, -1)


def test_a_layout_fits_the_rank() -> None:
    model = ov.Core().read_model(one_input([1, 3, 8, 8]))
    node = model.input().node
    for fits in ("NCHW", Layout("N...C"), "...", "NHW..."):
        node.set_layout(fits)
        assert node.get_layout() == node.layout == fits
    for wrong in ("NC", "NCDHW", "NCD...HW"):
        with pytest.raises(InvalidArgumentError, match=r"'x' has 4, with shape \[1,3,8,8\]"):
            node.layout = wrong
    layout_helpers.set_layout(model.output(), Layout("NCHW"))
    assert layout_helpers.get_layout(model.output()) == "NCHW"
    assert ov.compile_model(model, "REFERENCE").output().node.layout == "NCHW"


@pytest.mark.parametrize(
    ("shape", "layout", "batch", "after"),
    [
        ([1, 3, 8, 8], "NCHW", 1, [4, 3, 8, 8]),
        ([1, 3, 8, 8], None, 1, [4, 3, 8, 8]),
        ([8, 3, 2], "...N", 2, [8, 3, 4]),
        ([8, 3, 2], "CN?", 3, [8, 4, 2]),
        ([-1, 3], "NC", -1, [4, 3]),
    ],
)
def test_the_batch_is_where_the_layout_says(shape: list[int], layout: Any, batch: int, after: list[int]) -> None:
    model = ov.Core().read_model(one_input(["n" if extent < 0 else extent for extent in shape]))
    if layout:
        model.input().node.set_layout(layout)
    assert ov.get_batch(model) == batch
    ov.set_batch(model, 4)
    assert model.input().shape == model.output().shape == after
    ov.set_batch(model, ov.Dimension(2, 5))
    assert str(ov.get_batch(model)) == "2..5"
    ov.set_batch(model)
    assert ov.get_batch(model).is_dynamic


def test_the_batch_of_several_inputs() -> None:
    model = ov.Core().read_model(two_inputs([1, 3]))
    ov.set_batch(model, 7)
    assert [port.shape for port in model.inputs] == [[7, 3], [7, 3]]
    for port in model.inputs:
        port.node.set_layout("CN")
    assert ov.get_batch(model) == 3
    model.input(1).node.set_layout("NC")
    with pytest.raises(InvalidArgumentError, match="differ in the batch: 'x' 3, 'y' 7"):
        ov.get_batch(model)
    before = [port.shape for port in model.inputs]
    with pytest.raises(InvalidArgumentError):
        ov.set_batch(model, 5)
    assert [port.shape for port in model.inputs] == before
    with pytest.raises(TypeError):
        ov.set_batch(model, "5")
    with pytest.raises(InvalidArgumentError, match="no batch"):
        ov.get_batch(ov.Core().read_model(one_input([])))


@pytest.mark.parametrize(("layout", "axis"), [(None, 0), ("CN", 1)])
def test_a_batch_may_come_as_samples(device: str, layout: str | None, axis: int) -> None:
    model = ov.Core().read_model(one_input(["a", "b"]))
    if layout:
        model.input().node.set_layout(layout)
    compiled = ov.compile_model(model, device)
    request = compiled.create_infer_request()
    rows = [np.full([3, 1] if axis else [1, 3], i, np.float32) for i in range(2)]
    tensors = [ov.Tensor(row, shared_memory=True) for row in rows]
    for bind in (
        lambda: request.set_input_tensors(tensors),
        lambda: request.set_input_tensors(0, tensors),
        lambda: request.set_tensors("x", tensors),
        lambda: request.set_tensors(port=compiled.input(), tensors=tensors),
    ):
        bind()
        rows[0] += 1
        np.testing.assert_array_equal(request.infer()[0], -np.concatenate(rows, axis))
        with pytest.raises(InvalidArgumentError, match="get_tensor shall not be used together with batched"):
            request.get_tensor("x")
    np.testing.assert_array_equal(request.infer(np.ones([2, 2], np.float32))[0], -np.ones([2, 2]))
    assert rows[1].max() == 1
    for wrong, message in (
        ([tensors[0], ov.Tensor(np.ones([5, 5], np.float32))], "samples of a batch have one shape"),
        ([ov.Tensor(np.ones([2, 2], np.float32))], "of length 1 in dimension"),
        ([np.ones([1, 3])], "a list of tensors is needed"),
        ([], "a list of tensors is needed"),
        ([ov.Tensor(np.ones([1, 1]))], "type f64 given, f32 needed"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            request.set_input_tensors(wrong)


def test_partial_shapes_of_unknown_rank_take_any_layout() -> None:
    Layout("NCHW").check_fits(PartialShape.dynamic(), "x")
