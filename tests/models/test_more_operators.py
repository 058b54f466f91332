"""Small models of the operators beside convolutions and matrix products: each computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import pytest
from support.judge import Net, compare

COORDINATES = [
    "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
]  # fmt: skip
SCALES = [(2.0, 2.0), (3.0, 1.0), (0.5, 0.5), (1.8, 0.61), (0.26, 2.3)]


def resized(n: Net, x: str, scales: tuple[float, float], **attributes: Any) -> str:
    return n("Resize", x, "", n.constant([1, 1, *scales]), **attributes)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("channels", [2, 19])
def test_resize_to_the_nearest(coordinates: str, channels: int) -> None:
    n = Net(opset=19)
    x = n.input(2, channels, 7, 9)
    y = n.conv(x, channels, channels, 1)
    # Symmetric positions next to whole numbers are rounded differently.
    for scales in SCALES[: 3 if coordinates == "half_pixel_symmetric" else None]:
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            attributes = dict(coordinate_transformation_mode=coordinates, nearest_mode=rounding)
            n.output(resized(n, y, scales, **attributes))
    compare(n.model())


@pytest.mark.parametrize("coordinates", [c for c in COORDINATES if c != "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("channels", [1, 19])
def test_resize_by_weights(coordinates: str, mode: str, channels: int) -> None:
    n = Net(opset=19)
    x = n.input(2, channels, 7, 9)
    y = n.conv(x, channels, channels, 1)
    for scales in SCALES:
        n.output(resized(n, y, scales, coordinate_transformation_mode=coordinates, mode=mode))
    if mode == "cubic":
        n.output(resized(n, y, (1.7, 0.6), mode=mode, cubic_coeff_a=-0.5, exclude_outside=1))
    compare(n.model())


def test_resize_to_sizes_along_axes_and_of_signals() -> None:
    n = Net(opset=19)
    y = n.conv(n.input(1, 3, 10, 12), 3, 20)
    n.output(n("Resize", y, "", "", n.integers(1, 20, 17, 21), mode="linear"), n("Relu", y))
    n.output(n("Resize", y, "", "", n.integers(17, 21), mode="nearest", axes=[2, 3]))
    for policy in ("not_larger", "not_smaller"):
        n.output(n("Resize", y, "", "", n.integers(17, 33), axes=[2, 3], keep_aspect_ratio_policy=policy))
    signal = n.conv(n.input(2, 6, 11), 6, 17, (3,))
    for mode, scale in (("nearest", 2.5), ("linear", 2)):
        n.output(n("Resize", signal, "", n.constant([1, 1, scale]), mode=mode))
    compare(n.model())


def test_resize_beside_convolutions_and_concatenation() -> None:
    n = Net()
    x = n.conv(n.input(1, 3, 8, 10), 3, 32, pads=[1] * 4)
    large = resized(n, n.conv(x, 32, 32, strides=[2, 2], pads=[1] * 4), (2.0, 2.0), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    n.output(n.conv(n("Concat", large, x, axis=1), 64, 8, pads=[1] * 4))
    compare(n.model())


def test_upsample_of_an_old_model() -> None:
    n = Net(opset=9)
    y = n.conv(n.input(1, 3, 5, 6), 3, 18)
    n.output(n("Upsample", y, n.constant([1, 1, 2, 3])), n("Upsample", y, n.constant([1, 1, 2, 2]), mode="linear"))
    compare(n.model())


def test_a_resize_without_a_kernel_falls_back() -> None:
    n = Net(opset=18)
    x = n.input(1, 4, 6, 6)
    n.output(resized(n, x, (0.5, 0.5), mode="linear", antialias=1), n("Resize", x, "", n.constant([1, 2, 1, 1])))
    compare(n.model(), fallbacks=["Resize", "Resize"], tolerance=1e-4)
