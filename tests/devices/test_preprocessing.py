"""What the steps of PrePostProcessor compute, on each device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime import Type
from cpuruntime.preprocess import ColorFormat, PaddingMode, PrePostProcessor, ResizeAlgorithm

Say = Callable[[PrePostProcessor], Any]


def result(device: str, shape: list[int], say: Say, *arrays: np.ndarray, layout: str = "NCHW") -> np.ndarray:
    """What the model that negates gets from its steps."""
    core = ov.Core()
    ppp = PrePostProcessor(core.read_model(one_input(shape)))
    ppp.input().model().set_layout(layout)
    say(ppp)
    compiled = core.compile_model(ppp.build(), device)
    return -np.array(compiled(list(arrays))[0])


def image(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape).astype(dtype)


def test_bytes_become_the_model_s_numbers(device: str) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_element_type(Type.u8).set_color_format(ColorFormat.BGR)
        steps = ppp.input().preprocess().convert_element_type(Type.f32).convert_color(ColorFormat.RGB)
        steps.mean([1.5, 2, 3]).scale([50, 60, 70])

    x = image(1, 8, 6, 3)
    want = ((x[..., ::-1] - np.float32([1.5, 2, 3])) / np.float32([50, 60, 70])).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(result(device, [1, 3, 8, 6], say, x), want, rtol=1e-6)


def test_images_without_a_batch(device: str) -> None:
    x = image(8, 6, 3, dtype=np.float32)
    got = result(device, [1, 3, 8, 6], lambda ppp: ppp.input().tensor().set_layout("HWC"), x)
    np.testing.assert_array_equal(got, x.transpose(2, 0, 1)[None])


MODES = [(PaddingMode.CONSTANT, "constant"), (PaddingMode.REFLECT, "reflect"), (PaddingMode.SYMMETRIC, "symmetric")]


@pytest.mark.parametrize(("mode", "word"), MODES)
def test_crop_and_pad(device: str, mode: PaddingMode, word: str) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_shape([1, 3, 9, 7])
        steps = ppp.input().preprocess().crop([0, 0, 1, 2], [1, 3, -1, 7])
        steps.pad([0, 0, 2, 0], [0, 0, 1, 3], 7.5, mode)

    x = image(1, 3, 9, 7, dtype=np.float32)
    keywords = {"constant_values": 7.5} if word == "constant" else {}
    want = np.pad(x[:, :, 1:-1, 2:7], [(0, 0), (0, 0), (2, 1), (0, 3)], mode=word, **keywords)
    np.testing.assert_array_equal(result(device, [1, 3, 10, 8], say, x), want)


def test_channels_are_reversed_and_dropped(device: str) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_color_format(ColorFormat.BGRX)
        ppp.input().preprocess().convert_color(ColorFormat.RGB).reverse_channels()

    x = image(1, 8, 6, 4, dtype=np.float32)
    np.testing.assert_array_equal(result(device, [1, 3, 8, 6], say, x), x[..., :3].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gray(device: str, dtype: Any) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_element_type(dtype).set_color_format(ColorFormat.BGR)
        ppp.input().preprocess().convert_color(ColorFormat.GRAY)

    x = image(1, 8, 6, 3, dtype=dtype)
    want = x.astype(np.float32) @ np.float32([[0.114], [0.587], [0.299]])
    want = np.rint(want) if dtype is np.uint8 else want
    np.testing.assert_allclose(result(device, [1, 1, 8, 6], say, x), want.transpose(0, 3, 1, 2), rtol=1e-6)


def from_yuv(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """RGB of planes [h, w] and [h/2, w/2]."""
    y, u, v = y - np.float32(16), *(np.kron(p - np.float32(128), np.ones((2, 2), np.float32)) for p in (u, v))
    rgb = [1.164 * y + 1.596 * v, 1.164 * y - 0.391 * u - 0.813 * v, 1.164 * y + 2.018 * u]
    return np.clip(np.rint(np.stack(rgb)), 0, 255)[None]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("color", list(ColorFormat)[1:5])
def test_planes_of_luma_and_chroma(device: str, color: ColorFormat, dynamic: bool) -> None:
    def say(ppp: PrePostProcessor) -> None:
        tensor = ppp.input().tensor().set_element_type(Type.u8).set_color_format(color)
        if dynamic:
            tensor.set_spatial_dynamic_shape()
        ppp.input().preprocess().convert_color(ColorFormat.RGB)

    y, u, v = image(6, 4), image(3, 2), image(3, 2)[::-1]
    uv = np.stack([u, v], -1)
    planes = {
        ColorFormat.NV12_SINGLE_PLANE: [np.concatenate([y, uv.reshape(3, 4)])[None, ..., None]],
        ColorFormat.NV12_TWO_PLANES: [y[None, ..., None], uv[None]],
        ColorFormat.I420_SINGLE_PLANE: [np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(1, 9, 4, 1)],
        ColorFormat.I420_THREE_PLANES: [plane[None, ..., None] for plane in (y, u, v)],
    }[color]
    got = result(device, [1, 3, 6, 4], say, *map(np.ascontiguousarray, planes))
    np.testing.assert_array_equal(got, from_yuv(y, u, v))


def linear(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Resized along one axis, by the two neighbours of each point."""
    source = x.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
    low = at.astype(int)
    part = np.expand_dims(at - low, tuple(range(1, x.ndim - axis)))
    return x.take(low, axis) * (1 - part) + x.take(np.minimum(low + 1, source - 1), axis) * part


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "HWC"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_linear_resize_of_bytes_rounds_to_bytes(device: str, dtype: Any, layout: str) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_element_type(dtype).set_layout(layout).set_spatial_static_shape(9, 13)
        ppp.input().preprocess().resize(ResizeAlgorithm.RESIZE_LINEAR)

    x = image(1, 3, 9, 13, dtype=dtype)
    want = linear(linear(x.astype(np.float64), 8, 2), 6, 3)
    given = x[0].transpose(1, 2, 0) if layout == "HWC" else x.transpose(0, 2, 3, 1) if layout == "NHWC" else x
    got = result(device, [1, 3, 8, 6], say, np.ascontiguousarray(given))
    assert np.abs(got - want).max() < (0.5001 if dtype is np.uint8 else 1e-4)
    assert dtype is not np.uint8 or np.array_equal(got, np.rint(got))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_nearest_resize(device: str, dtype: Any) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_element_type(dtype).set_shape([1, 3, 4, 9])
        ppp.input().preprocess().resize(ResizeAlgorithm.RESIZE_NEAREST)

    x = image(1, 3, 4, 9, dtype=dtype)
    np.testing.assert_array_equal(result(device, [1, 3, 8, 3], say, x), x.repeat(2, 2)[..., 1::3])


# What Pillow 12.0 makes of `image(7, 9)`.
BILINEAR = {
    (4, 5): [[146, 191, 134, 164, 89], [92, 156, 98, 153, 171], [137, 126, 117, 151, 167], [161, 131, 91, 111, 138]],
    (3, 12): [
        [125, 118, 147, 202, 199, 119, 98, 148, 198, 107, 85, 147],
        [109, 117, 127, 140, 157, 127, 102, 109, 203, 161, 159, 213],
        [179, 149, 118, 106, 152, 103, 71, 81, 120, 148, 150, 133],
    ],
}
BICUBIC = {
    (4, 5): [[143, 198, 137, 166, 75], [83, 162, 92, 152, 179], [134, 124, 119, 151, 173], [164, 130, 85, 104, 140]],
    (3, 12): [
        [126, 111, 145, 212, 205, 110, 85, 155, 209, 98, 72, 145],
        [101, 112, 125, 137, 158, 128, 91, 98, 217, 156, 154, 229],
        [188, 154, 113, 100, 160, 104, 63, 79, 117, 155, 153, 125],
    ],
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "size", "want"),
    [
        *((ResizeAlgorithm.RESIZE_BILINEAR_PILLOW, size, want) for size, want in BILINEAR.items()),
        *((ResizeAlgorithm.RESIZE_BICUBIC_PILLOW, size, want) for size, want in BICUBIC.items()),
    ],
)
def test_pillow_s_resize_of_bytes_bit_for_bit(
    device: str, algorithm: ResizeAlgorithm, size: tuple[int, int], want: list[list[int]], dynamic: bool
) -> None:
    def say(ppp: PrePostProcessor) -> None:
        tensor = ppp.input().tensor().set_element_type(Type.u8).set_layout("HW")
        tensor.set_shape([-1, -1] if dynamic else [7, 9])
        ppp.input().preprocess().resize(algorithm)

    np.testing.assert_array_equal(result(device, list(size), say, image(7, 9), layout="HW"), want)


def test_pillow_s_resize_of_interleaved_bytes(device: str) -> None:
    def say(ppp: PrePostProcessor, *shape: int) -> None:
        ppp.input().tensor().set_element_type(Type.u8).set_layout("NHWC" if len(shape) == 4 else "HW")
        ppp.input().tensor().set_shape(list(shape))
        ppp.input().preprocess().resize(ResizeAlgorithm.RESIZE_BICUBIC_PILLOW)

    x = image(1, 23, 40, 3)
    got = result(device, [1, 3, 9, 11], lambda ppp: say(ppp, 1, 23, 40, 3), x)
    for channel in range(3):
        plane = np.ascontiguousarray(x[0, :, :, channel])
        want = result(device, [9, 11], lambda ppp: say(ppp, 23, 40), plane, layout="HW")
        np.testing.assert_array_equal(got[0, channel], want)


@pytest.mark.parametrize("algorithm", [None, ResizeAlgorithm.RESIZE_LINEAR, ResizeAlgorithm.RESIZE_BICUBIC_PILLOW])
def test_models_of_an_old_operator_set(algorithm: ResizeAlgorithm | None) -> None:
    results = []
    for version in (9, 18):
        model = one_input([1, 3, 4, 6])
        model.opset_import[0].version = version
        ppp = PrePostProcessor(ov.Core().read_model(model))
        tensor, steps = ppp.input().tensor().set_element_type(Type.u8), ppp.input().preprocess()
        ppp.input().model().set_layout("NCHW")
        if algorithm is None:
            tensor.set_color_format(ColorFormat.NV12_SINGLE_PLANE)
            steps.convert_color(ColorFormat.RGB)
        else:
            tensor.set_layout("NCHW").set_shape([1, 3, 6, 6])
            steps.resize(algorithm)
        built = ppp.build()
        results.append(ov.Core().compile_model(built, "CPU")(image(*built.input().shape))[0])
    np.testing.assert_array_equal(*results)


def test_pillow_s_resize_of_real_numbers(device: str) -> None:
    def say(ppp: PrePostProcessor) -> None:
        ppp.input().tensor().set_layout("NCHW").set_spatial_static_shape(7, 9)
        ppp.input().preprocess().resize(ResizeAlgorithm.RESIZE_BICUBIC_PILLOW)

    got = result(device, [1, 1, 4, 5], say, image(1, 1, 7, 9, dtype=np.float32))
    assert np.abs(got[0, 0] - BICUBIC[4, 5]).max() < 1.5


def test_outputs_are_as_they_are_wanted(device: str) -> None:
    core = ov.Core()
    ppp = PrePostProcessor(core.read_model(one_input([1, 3, 4, 5])))
    ppp.output().model().set_layout("NCHW")
    ppp.output().postprocess().custom(lambda value: value.apply("Abs"))
    ppp.output().tensor().set_layout("NHWC").set_element_type(Type.u8)
    x = image(1, 3, 4, 5, dtype=np.float32)
    got = core.compile_model(ppp.build(), device)(x)["y"]
    np.testing.assert_array_equal(got, x.astype(np.uint8).transpose(0, 2, 3, 1))
