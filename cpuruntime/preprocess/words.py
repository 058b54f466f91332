"""The enumerations: colour formats, ways to resize, ways to pad."""

from __future__ import annotations

from enum import Enum


class _Numbered(Enum):
    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"


class ColorFormat(_Numbered):
    """What the channels of an image mean.

    NV12 and I420 are planes of bytes: Y of the image's height and width, U and V of half of each. In one tensor
    (SINGLE_PLANE) they stand below each other, [N, H * 3 / 2, W, 1]; in NV12 U and V alternate.
    """

    UNDEFINED = 0
    NV12_SINGLE_PLANE = 1
    NV12_TWO_PLANES = 2
    I420_SINGLE_PLANE = 3
    I420_THREE_PLANES = 4
    RGB = 5
    BGR = 6
    GRAY = 7
    RGBX = 8
    BGRX = 9


class ResizeAlgorithm(_Numbered):
    """How to resize.

    LINEAR, CUBIC and NEAREST read the neighbours of each point only, as OpenCV's. Those of Pillow average over the
    whole area when they shrink; of bytes they give the bytes of Pillow up to 12 (13 sums columns before rows where that
    is faster, which may differ by one).
    """

    RESIZE_LINEAR = 0
    RESIZE_CUBIC = 1
    RESIZE_NEAREST = 2
    RESIZE_BILINEAR_PILLOW = 3
    RESIZE_BICUBIC_PILLOW = 4


class PaddingMode(_Numbered):
    """What is put around an image: a value; the image mirrored without, or with, its edge."""

    CONSTANT = 0
    REFLECT = 2
    SYMMETRIC = 3
