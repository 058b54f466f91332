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
    NEAREST = "nearest"
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


def test_padding_repeats_the_edge_and_a_large_crop_pads() -> None:
    edge, crop = transform("Pad", padding=2, fill=0, padding_mode="edge"), transform("CenterCrop", size=(11, 20))
    want = np.pad(IMAGE, [(2, 2), (2, 2), (0, 0)], "edge")[:11]
    got = converted([1, 3, 11, 20], IMAGE, edge, crop, TO_TENSOR) * 255
    np.testing.assert_allclose(got[0, :, :, 2:-2], want.transpose(2, 0, 1), rtol=1e-6)
    assert not got[..., :2].any()
    assert not got[..., -2:].any()


def test_gray_is_pillow_s_or_torch_s() -> None:
    gray = transform("Grayscale", num_output_channels=3)
    got = np.rint(converted([1, 3, 8, 12], IMAGE, gray, gray, TO_TENSOR) * 255)
    np.testing.assert_array_equal(got[0, 0], (IMAGE.astype(np.int64) @ [19595, 38470, 7471] + 32768) >> 16)
    np.testing.assert_array_equal(got[:, 0], got[:, 2])
    got = converted([1, 1, 8, 12], IMAGE, transform("ToImage"), transform("Grayscale", num_output_channels=1))
    parts = np.float32([0.2989, 0.587, 0.114]) * IMAGE
    np.testing.assert_array_equal(got[0, 0], (parts[..., 0] + parts[..., 1] + parts[..., 2]).astype(np.uint8))


def test_the_nearest_pixel_is_that_of_pillow_or_torch() -> None:
    step = resize([8, 5], InterpolationMode.NEAREST)
    rows = np.arange(12, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)
    assert converted([1, 3, 8, 5], rows, step, transform("ToImage"))[0, 0, 0].tolist() == [1, 3, 6, 8, 10]
    assert converted([1, 3, 8, 5], rows, transform("ToImage"), step)[0, 0, 0].tolist() == [0, 2, 4, 7, 9]


def test_the_longer_side_has_a_limit() -> None:
    step = resize(6)
    step.max_size = 7
    assert converted([1, 3, 4, 7], IMAGE, step, TO_TENSOR).shape == (1, 3, 4, 7)


def test_a_picture_of_one_channel() -> None:
    class Picture:
        __module__ = "PIL.Image"

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return IMAGE[..., 0]

    model = ov.Core().read_model(one_input([1, 1, 8, 12]))
    model = PreprocessConverter.from_torchvision(model, TO_TENSOR, Picture())
    assert str(model.input().partial_shape) == "[1,8,12,1]"


@pytest.mark.parametrize("source", ["PIL", "u8", "f32"])
@pytest.mark.parametrize("version", ["transforms", "transforms.v2"])
def test_torchvision_itself(version: str, source: str) -> None:
    torch, module = pytest.importorskip("torch"), pytest.importorskip(f"torchvision.{version}")
    image: Any = pytest.importorskip("PIL.Image").fromarray(IMAGE)
    given, finish = IMAGE, [module.PILToTensor()]
    if source != "PIL":
        image, finish = torch.from_numpy(IMAGE.transpose(2, 0, 1).copy()), []
        image = image if source == "u8" else image / 255
        given = image.numpy()
    modes = [module.InterpolationMode(word) for word in ("bilinear", "nearest", "nearest-exact")]
    for steps in (
        [module.Resize(5, modes[0]), module.CenterCrop((4, 9)), module.Pad([1, 2, 3, 0], padding_mode="reflect")],
        [module.Grayscale(3), module.Resize((13, 7), modes[1]), module.Pad(2, padding_mode="edge")],
        [module.Resize([6], modes[2]), module.Grayscale(1), module.CenterCrop(11)],
        [
            module.Resize((3, 5), modes[0]),
            *finish,
            module.ConvertImageDtype(torch.float32),
            module.Normalize([0.5], [0.2]),
        ],
    ):
        steps = steps if module.Normalize in map(type, steps) else [*steps, *finish]
        chain = module.Compose(steps)
        want = np.asarray(chain(image))[None]
        model = ov.Core().read_model(one_input(want.shape))
        model = PreprocessConverter.from_torchvision(model, chain, image)
        got = -np.array(ov.Core().compile_model(model, "CPU")(given[None])[0])
        unit = 1.01 if want.dtype == np.uint8 else 1.01 / 255 / 0.2
        assert np.abs(got - want).max() <= (1e-5 if source == "f32" else unit)


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
        (resize(None), UnsupportedError, "Resize with size None"),
        (transform("Pad", padding=1, fill=(1, 2, 3), padding_mode="constant"), InvalidArgumentError, "give one value"),
        (transform("Pad", padding=1, fill=0, padding_mode="wrap"), UnsupportedError, "Pad by wrap"),
    ],
)
def test_what_is_refused(step: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        converted([1, 3, 8, 12], IMAGE, step)
    with pytest.raises(InvalidArgumentError, match="an image has rank 3"):
        converted([1, 3, 8, 12], IMAGE[0], TO_TENSOR)
