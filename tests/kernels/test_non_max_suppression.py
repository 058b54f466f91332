"""NonMaxSuppression against ONNX Runtime: both forms of boxes, limits, equal scores, boxes without an area."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import Net, onnx_runtime

import cpuruntime as ov
from cpuruntime.graph import Node, Value
from cpuruntime.program.lowerings.data_dependent import compute

RANDOM = np.random.default_rng(0)


def found_and_expected(arrays: dict[str, Any], **attributes: Any) -> tuple[np.ndarray, np.ndarray]:
    net = Net()
    names = [net.input(*a.shape, dtype=a.dtype, name=name) if a is not None else "" for name, a in arrays.items()]
    net.output(net("NonMaxSuppression", *names, **attributes))
    expected = onnx_runtime(net.model(), {name: a for name, a in arrays.items() if a is not None})[0]
    node = Node("NonMaxSuppression", "n", [Value(name) for name in arrays], [Value("y")], attributes, "", 17)
    results = compute(node, list(arrays.values()))
    assert results is not None
    return results[0], expected


def limits(most: int, overlap: float, least: float | None) -> dict[str, Any]:
    given = dict(most=np.array([most], np.int64), overlap=np.array([overlap], np.float32))
    return given if least is None else given | dict(least=np.array([least], np.float32))


@pytest.mark.parametrize(("most", "overlap", "least"), [(200, 0.4, 0.3), (3, 0.2, None), (0, 0.5, 0.1), (50, 0.0, 0.6)])
@pytest.mark.parametrize("center", [0, 1])
def test_boxes(center: int, most: int, overlap: float, least: float | None) -> None:
    boxes = RANDOM.uniform(0, 1, (2, 150, 4)).astype(np.float32)
    scores = RANDOM.uniform(0, 1, (2, 3, 150)).round(1).astype(np.float32)  # many are equal
    arrays = dict(boxes=boxes, scores=scores) | limits(most, overlap, least)
    found, expected = found_and_expected(arrays, center_point_box=center)
    np.testing.assert_array_equal(found, expected)


def test_boxes_without_an_area_and_the_same_box_again() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5], [2, 2, 3, 3]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.9, 0.7, 0.1]]], np.float32)
    found, expected = found_and_expected(dict(boxes=boxes, scores=scores) | limits(9, 0.5, 0.0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(1, 2, 0), (0, 2, 5), (2, 0, 5)])
def test_nothing_to_choose_from(shape: tuple[int, int, int]) -> None:
    images, _, count = shape
    arrays = dict(boxes=np.zeros((images, count, 4), np.float32), scores=np.zeros(shape, np.float32))
    node = Node("NonMaxSuppression", "n", [Value(name) for name in arrays], [Value("y")], {}, "", 17)
    results = compute(node, [*arrays.values(), np.array(7, np.int64)])
    assert results is not None
    assert (results[0].shape, results[0].dtype) == ((0, 3), np.int64)


def test_a_model_runs_it_by_the_kernel() -> None:
    net = Net()
    names = net.input(1, 40, 4), net.input(1, 2, 40), net.integers(5), net.constant([0.3])
    net.output(net("Neg", net("NonMaxSuppression", *names)))
    compiled = ov.Core().compile_model(net.model(), "CPU")
    feeds = {"x0": RANDOM.random((1, 40, 4), np.float32), "x1": RANDOM.random((1, 2, 40), np.float32)}
    np.testing.assert_array_equal(compiled(feeds)[0], onnx_runtime(net.model(), feeds)[0])
    assert not compiled.explain().fallbacks
