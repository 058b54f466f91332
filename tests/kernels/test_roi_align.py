"""RoiAlign where ONNX Runtime fails or says nothing: against NumPy, and for regions and indices of any kind."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from cases.roi_align import IMAGES, REGIONS
from onnx import helper
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.errors import InvalidArgumentError, ModelError

X = np.random.default_rng(3).standard_normal((3, 2, 6, 8)).astype(np.float32)


def compiled(regions: int, images: tuple[int, ...] = X.shape, **attributes: Any) -> ov.CompiledModel:
    node = helper.make_node("RoiAlign", ["x", "rois", "images"], ["y"], **attributes)
    inputs = {"x": list(images), "rois": [regions, 4], "images": [regions]}
    model = make_model([node], inputs, {"y": ["r", "c", "h", "w"]})
    model.graph.input[2].type.tensor_type.elem_type = 7
    return ov.compile_model(model, "CPU")


def pooled(x: np.ndarray, regions: np.ndarray, images: np.ndarray, mode: str, half: bool, samples: int) -> np.ndarray:
    """Two by two bins in float64, sample after sample, as the standard words it."""
    result = np.zeros((len(regions), x.shape[1], 2, 2))
    for r, image in enumerate(images):
        left, top, right, bottom = np.float64(regions[r]) - (0.5 if half else 0)
        sizes = [bottom - top, right - left]
        sizes = sizes if half else [max(size, 1) for size in sizes]
        counts = [samples or max(int(np.ceil(size / 2)), 0) for size in sizes]
        for place in np.ndindex(2, 2):
            values = []
            for sample in np.ndindex(*counts):
                y, x_ = (
                    start + (bin_ + (k + 0.5) / n) * size / 2
                    for start, size, bin_, k, n in zip((top, left), sizes, place, sample, counts)
                )
                values.append(corners(x[image], y, x_))
            if values:
                every = np.array(values)
                result[(r, slice(None), *place)] = every.sum(2).mean(0) if mode == "avg" else every.max((0, 2))
    return result


def corners(x: np.ndarray, row: float, column: float) -> np.ndarray:
    """The four weighted pixels around a place, for each channel."""
    height, width = x.shape[1:]
    if not (-1 <= row <= height and -1 <= column <= width):
        return np.zeros((len(x), 4))
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    rows = [(int(row), 1 - row % 1), (min(int(row) + 1, height - 1), row % 1)]
    columns = [(int(column), 1 - column % 1), (min(int(column) + 1, width - 1), column % 1)]
    return np.stack([x[:, i, j] * a * b for i, a in rows for j, b in columns], 1)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("samples", [0, 2])
def test_regions_of_all_kinds(mode: str, half: bool, samples: int) -> None:
    regions = np.array([*REGIONS, (6, 5, 2, 1), (9, 2, -4, 3), (3, 3, 3, 3)], np.float32)
    images = np.array([*IMAGES, 2, 0, 1])
    attributes = dict(output_height=2, output_width=2, sampling_ratio=samples, mode=mode)
    attributes["coordinate_transformation_mode"] = "half_pixel" if half else "output_half_pixel"
    found = compiled(len(regions), **attributes)([X, regions, images])[0]
    np.testing.assert_allclose(found, pooled(X, regions, images, mode, half, samples), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [1e30, -1e30, np.inf, -np.inf, np.nan, 2**31, 1e9])
@pytest.mark.parametrize("samples", [0, 2])
def test_numbers_without_sense_take_no_time_and_read_nothing_outside(number: float, samples: int) -> None:
    places = np.array([[0, 0, 4, 4]] * 5, np.float32)
    for index in range(4):
        places[index, index] = number
    places[4] = number
    model = compiled(5, output_height=3, output_width=3, sampling_ratio=samples)
    found = model([np.ones_like(X), places, np.zeros(5, np.int64)])[0]
    assert ((found >= 0) & (found <= 1.001)).all()


@pytest.mark.parametrize("index", [-1, 3, 2**40, -(2**62)])
def test_an_image_that_there_is_not(index: int) -> None:
    model = compiled(2)
    message = r"RoiAlign '.*' \(opset 17\): an image index is out of range; it must be between 0 and 2\."
    with pytest.raises(InvalidArgumentError, match=message):
        model([X, np.zeros((2, 4), np.float32), np.array([0, index])])
    assert np.isfinite(model([X, np.zeros((2, 4), np.float32), np.array([0, 1])])[0]).all()


@pytest.mark.parametrize(
    ("attributes", "images", "message"),
    [
        (dict(sampling_ratio=-1), X.shape, "sampling_ratio is -1; it must be between 0 and 1024."),
        (dict(sampling_ratio=2**30), X.shape, "sampling_ratio is 1073741824; it must be between 0 and 1024."),
        ({}, (3, 2, 0, 8), "there are regions, but the images [3, 2, 0, 8] have no pixels."),
    ],
)
def test_what_the_kernel_does_not_check(attributes: dict, images: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        compiled(2, images, **attributes)
