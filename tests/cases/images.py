"""Windows and regions of images beside convolutions and pools: Col2Im, DeformConv, MaxRoiPool, Det."""

from __future__ import annotations

import numpy as np

from cases.case import Case, Tensor, integers

REGIONS = [[0, 0, 0, 5, 7], [1, 2.5, 1, 9, 4], [0, 7, 3, 2, 1], [1, -3, -9, 30, 2.49]]
DEFORMED: dict[str, dict[str, object]] = {
    "padded": dict(pads=[1, 1, 1, 1]),
    "strided": dict(strides=[2, 1], pads=[0, 1, 2, 0]),
    "dilated": dict(dilations=[1, 2], pads=[0, 1, 0, 1]),
}


def deformed(name: str, attributes: dict[str, object], mask: bool, shifts: int = 1, group: int = 1) -> Case:
    """Windows of 3 by 2 on images of 7 by 8."""
    strides, dilations, pads = (attributes.get(key, default) for key, default in
                                (("strides", [1, 1]), ("dilations", [1, 1]), ("pads", [0] * 4)))  # fmt: skip
    counts = [
        (extent + pads[i] + pads[i + 2] - dilations[i] * (window - 1) - 1) // strides[i] + 1
        for i, (extent, window) in enumerate(((7, 3), (8, 2)))
    ]
    inputs = [
        Tensor((2, 4, 7, 8)), Tensor((6, 4 // group, 3, 2)), Tensor((2, shifts * 12, *counts), low=-2, high=2),
        Tensor((6,)), *([Tensor((2, shifts * 6, *counts))] if mask else []),
    ]  # fmt: skip
    return Case(f"DeformConv {name}", "DeformConv", tuple(inputs),
                {"group": group, "offset_group": shifts, "kernel_shape": [3, 2], **attributes}, opset=22)  # fmt: skip


CASES = [
    Case("Col2Im", "Col2Im", (Tensor((2, 15, 16)), integers(6, 8), integers(3, 5))),
    Case("Col2Im, strided and padded", "Col2Im", (Tensor((2, 12, 9)), integers(6, 5), integers(2, 3)),
         dict(strides=[2, 2], pads=[0, 2, 1, 1])),
    Case("Col2Im of volumes", "Col2Im", (Tensor((1, 10, 12)), integers(3, 4, 5), integers(1, 1, 5)), {}),
    *(deformed(f"{name}{', masked' * mask}", attributes, bool(mask))
      for name, attributes in DEFORMED.items() for mask in (0, 1)),
    deformed("in groups", dict(pads=[1, 0, 1, 1]), True, 2, 2),
    Case("MaxRoiPool", "MaxRoiPool", (Tensor((2, 3, 8, 9)), Tensor((4, 5), values=REGIONS)), dict(pooled_shape=[2, 3])),
    Case("MaxRoiPool, scaled", "MaxRoiPool", (Tensor((2, 3, 8, 9)), Tensor((4, 5), values=REGIONS)),
         dict(pooled_shape=[3, 2], spatial_scale=0.6)),
    *(Case(f"Det of {n} by {n}", "Det", (Tensor((3, 2, n, n)),), opset=22) for n in (1, 2, 5, 9)),
    Case("Det of a singular matrix", "Det", (Tensor((3, 3), values=np.arange(9)),), opset=22),
]  # fmt: skip
