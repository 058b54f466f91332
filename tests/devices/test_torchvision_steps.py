"""Transforms as torchvision has them become steps; stand-ins have the attributes that torchvision's classes have."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, UnsupportedError
from cpuruntime.preprocess.torchvision import PreprocessConverter


class InterpolationMode(Enum):
    BILINEAR = "bilinear"
    LANCZOS = "lanczos"


def transform(name: str, **attributes: Any) -> Any:
    """An object of a class of this name."""
    return type(name, (SimpleNamespace,), {})(**attributes)


def resize(size: Any, mode: InterpolationMode = InterpolationMode.BILINEAR) -> Any:
    return transform("Resize", size=size, interpolation=mode, max_size=None, antialias=True)


NORMALIZE = transform("Normalize", mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], inplace=False)
TO_TENSOR = transform("ToTensor")
IMAGE = np.random.default_rng(3).integers(0, 256, (8, 12, 3)).astype(np.uint8)


def converted(shape: list[int], image: np.ndarray, *transforms: Any) -> np.ndarray:
    core = ov.Core()
    model = core.read_model(one_input(shape))
    model = PreprocessConverter.from_torchvision(model, transform("Compose", transforms=transforms), image)
    return -np.array(core.compile_model(model, "CPU")(image[None])[0])


def test_a_picture_becomes_numbers() -> None:
    want = (IMAGE / np.float32(255) - np.float32([0.5, 0.4, 0.3])) / np.float32([0.2, 0.3, 0.4])
    got = converted([1, 3, 8, 12], IMAGE, TO_TENSOR, NORMALIZE)
    np.testing.assert_allclose(got, want.transpose(2, 0, 1)[None], rtol=1e-5, atol=1e-6)


def test_the_shorter_side_and_the_middle() -> None:
    steps = resize(4), transform("CenterCrop", size=4), TO_TENSOR
    flat = np.full_like(IMAGE, 51)
    flat[:, 6:] = 102
    got = converted([1, 3, 4, 4], flat, *steps)
    np.testing.assert_allclose(got[0, :, :, 0], 0.2, rtol=1e-6)
    np.testing.assert_allclose(got[0, :, :, -1], 0.4, rtol=1e-6)


def test_padding_is_left_top_right_bottom() -> None:
    padding = transform("Pad", padding=(1, 2, 3, 0), fill=7, padding_mode="constant")
    want = np.pad(IMAGE, [(2, 0), (1, 3), (0, 0)], constant_values=7) / np.float32(255)
    got = converted([1, 3, 10, 16], IMAGE, padding, TO_TENSOR)
    np.testing.assert_allclose(got, want.transpose(2, 0, 1)[None], rtol=1e-6)


def test_gray_of_three_channels() -> None:
    got = converted([1, 3, 8, 12], IMAGE, transform("Grayscale", num_output_channels=3), TO_TENSOR)
    want = np.rint(IMAGE @ np.float32([0.299, 0.587, 0.114])) / 255
    assert np.abs(got - want).max() < 1.01 / 255
    np.testing.assert_array_equal(got[:, 0], got[:, 2])


def test_types_without_a_range_are_not_scaled() -> None:
    steps = transform("ToImage"), transform("ToDtype", dtype="torch.float32", scale=False)
    np.testing.assert_array_equal(converted([1, 3, 8, 12], IMAGE, *steps), IMAGE.transpose(2, 0, 1)[None])


def test_images_of_other_sizes_where_the_first_step_resizes() -> None:
    model = ov.Core().read_model(one_input([1, 3, 4, 4]))
    steps = transform("Compose", transforms=[resize([4, 4]), TO_TENSOR])
    model = PreprocessConverter.from_torchvision(model, steps, IMAGE)
    assert str(model.input().partial_shape) == "[1,?,?,3]"


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (
            transform("RandomCrop", size=3),
            UnsupportedError,
            r"RandomCrop has no counterpart here\. There are",
        ),
        (resize(4, InterpolationMode.LANCZOS), UnsupportedError, "Resize by lanczos has no counterpart"),
        (transform("CenterCrop", size=9), InvalidArgumentError, "CenterCrop to 9 x 9 of an image of 8 x 12"),
        (transform("Pad", padding=1, fill=0, padding_mode="edge"), UnsupportedError, "Pad by edge"),
    ],
)
def test_what_is_refused(step: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        converted([1, 3, 8, 12], IMAGE, step)
    with pytest.raises(InvalidArgumentError, match="an image has rank 3"):
        converted([1, 3, 8, 12], IMAGE[0], TO_TENSOR)
