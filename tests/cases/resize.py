"""Resize: coordinates, roundings, weights, scales and sizes."""

from __future__ import annotations

from itertools import product

from cases.case import Case, Tensor, constant, integers

COORDINATES = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric", "tf_half_pixel_for_nn",
)  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
SCALES = ((2.0, 2.0), (3.0, 1.0), (0.5, 0.5), (1.8, 0.61), (0.26, 2.3))

CASES = [
    *(
        Case(
            f"{mode} without aliasing {scales}{', excluding' * outside}",
            "Resize",
            (Tensor((2, 19, 14, 18)), None, constant([1, 1, *scales])),
            dict(mode=mode, antialias=1, exclude_outside=outside),
            opset=19,
        )
        for mode, scales, outside in product(("linear", "cubic"), ((0.5, 0.5), (0.3, 0.61), (0.9, 2.0)), (0, 1))
    ),
    *(
        Case(
            f"{mode} of a region {region}",
            "Resize",
            (Tensor((1, 3, 7, 9)), constant([0, 0, *region[:2], 1, 1, *region[2:]]), None, integers(1, 3, 5, 6)),
            dict(mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0),
            opset=19,
        )
        for mode, region in product(
            ("nearest", "linear"), ((0.2, 0.3, 0.8, 0.75), (0.4, 0.6, 1.2, 1.7), (-0.5, 0.9, 0.5, 0.1))
        )
    ),
    *(
        Case(
            f"nearest {coordinates} {rounding} {scales}",
            "Resize",
            (Tensor((2, 19, 7, 9)), None, constant([1, 1, *scales])),
            dict(coordinate_transformation_mode=coordinates, nearest_mode=rounding),
            opset=19,
        )
        for coordinates, rounding, scales in product(COORDINATES, ROUNDINGS, SCALES)
        # Symmetric positions next to whole numbers are rounded differently.
        if coordinates != "half_pixel_symmetric" or scales in SCALES[:3]
    ),
    *(
        Case(
            f"{mode} {coordinates} {scales}, {channels} channels",
            "Resize",
            (Tensor((2, channels, 7, 9)), None, constant([1, 1, *scales])),
            dict(coordinate_transformation_mode=coordinates, mode=mode),
            opset=19,
        )
        for mode, coordinates, scales, channels in product(("linear", "cubic"), COORDINATES[:5], SCALES, (1, 19))
    ),
    Case(
        "cubic without what is outside",
        "Resize",
        (Tensor((2, 19, 7, 9)), None, constant([1, 1, 1.7, 0.6])),
        dict(mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
        opset=19,
    ),
    Case("to sizes", "Resize", (Tensor((1, 20, 10, 12)), None, None, integers(1, 20, 17, 21)), dict(mode="linear")),
    Case("to sizes of axes", "Resize", (Tensor((1, 20, 10, 12)), None, None, integers(17, 21)), dict(axes=[2, 3])),
    *(
        Case(
            f"to sizes, {policy}",
            "Resize",
            (Tensor((1, 20, 10, 12)), None, None, integers(17, 33)),
            dict(axes=[2, 3], keep_aspect_ratio_policy=policy),
        )
        for policy in ("not_larger", "not_smaller")
    ),
    *(
        Case(f"{mode} signal", "Resize", (Tensor((2, 17, 11)), None, constant([1, 1, scale])), dict(mode=mode))
        for mode, scale in (("nearest", 2.5), ("linear", 2))
    ),
]
