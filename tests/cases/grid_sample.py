"""GridSample: every mode, padding and alignment; grids that reach outside of the image."""

from __future__ import annotations

from itertools import product

from cases.case import Case, Tensor

MODES = ("linear", "nearest", "cubic")
PADDINGS = ("zeros", "border", "reflection")

CASES = [
    *(
        Case(
            f"{mode} {padding} of volumes{' aligned' if aligned else ''}",
            "GridSample",
            (Tensor((2, 3, 4, 5, 6)), Tensor((2, 3, 4, 5, 3), low=-1.4, high=1.4)),
            dict(mode=mode, padding_mode=padding, align_corners=aligned),
            opset=20,
        )
        for mode, padding, aligned in product(MODES[:2], PADDINGS, (0, 1))
    ),
    *(
        Case(
            f"{mode} {padding}{' aligned' if aligned else ''}",
            "GridSample",
            (Tensor((2, 5, 7, 9)), Tensor((2, 6, 11, 2), low=-1.4, high=1.4)),
            dict(mode=mode, padding_mode=padding, align_corners=aligned),
            opset=20,
        )
        for mode, padding, aligned in product(MODES, PADDINGS, (0, 1))
    ),
    *(
        Case(
            f"{attributes.get('mode', 'default')} of the first version",
            "GridSample",
            (Tensor((1, 3, 8, 8)), Tensor((1, 4, 4, 2))),
            attributes,
            opset=16,
        )
        for attributes in ({}, dict(mode="bicubic"), dict(mode="bilinear"))
    ),
]
