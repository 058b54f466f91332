"""RoiAlign: modes, places of pixels, numbers of samples; regions in, across and outside of the image."""

from __future__ import annotations

from itertools import product
from typing import Any

from cases.case import Case, Tensor, constant

REGIONS = (
    (1.0, 1.0, 6.0, 4.5), (0.0, 0.0, 8.0, 6.0), (2.5, 1.25, 2.75, 1.5), (-3.0, -2.0, 4.0, 3.0), (5.0, 4.0, 30.0, 20.0),
    (40.0, 40.0, 50.0, 50.0), (3.0, 3.0, 3.5, 3.0), (-50.0, -60.0, 70.0, 80.0),
)  # fmt: skip
IMAGES = (0, 1, 2, 1, 0, 2, 1, 0)


def case(name: str, opset: int = 16, image: tuple[int, int] = (6, 8), channels: int = 5, **attributes: Any) -> Case:
    """Three images and regions of all kinds."""
    inputs = (Tensor((3, channels, *image)), constant(REGIONS), constant(IMAGES, "int64"))
    return Case(name, "RoiAlign", inputs, attributes, opset=opset, tolerance=2e-5)


CASES = [
    *(
        case(
            f"{mode} {pixel} {samples or 'adaptive'}", mode=mode, coordinate_transformation_mode=pixel,
            sampling_ratio=samples, output_height=3, output_width=4, spatial_scale=0.75,
        )
        for mode, pixel, samples in product(("avg", "max"), ("half_pixel", "output_half_pixel"), (0, 1, 3))
    ),
    case("defaults"),
    case("defaults of the first version", opset=10),
    case("one pixel", image=(1, 1), output_height=2, output_width=2),
    case("one column", image=(7, 1), channels=1, output_height=7, sampling_ratio=2),
    case("larger than the image", image=(2, 3), output_height=7, output_width=7, sampling_ratio=2),
    Case(
        "regions from elsewhere", "RoiAlign", (Tensor((2, 3, 9, 9)), Tensor((20, 4), low=-2, high=11),
        Tensor((20,), "int64", low=0, high=2)), dict(output_height=2, output_width=2, sampling_ratio=2), opset=16,
        tolerance=2e-5,
    ),
    Case(
        "no regions", "RoiAlign", (Tensor((2, 3, 9, 9)), Tensor((0, 4)), Tensor((0,), "int64")), dict(output_height=2),
        opset=16,
    ),
    Case(
        "as detectors have it", "RoiAlign", (Tensor((1, 256, 50, 68)), Tensor((32, 4), low=0, high=800),
        Tensor((32,), "int64", low=0, high=1)),
        dict(output_height=7, output_width=7, sampling_ratio=2, spatial_scale=0.0625), opset=16,
    ),
]  # fmt: skip
