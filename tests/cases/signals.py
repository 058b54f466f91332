"""Fourier transforms: of real and complex numbers, forwards and back, whole and of frames."""

from __future__ import annotations

import numpy as np

from cases.case import Case, Tensor, constant

CASES = [
    Case("DFT of real numbers", "DFT", (Tensor((2, 12, 1)),), opset=17),
    Case("DFT of complex numbers along axis 2", "DFT", (Tensor((2, 3, 10, 2)),), dict(axis=2), opset=17),
    Case("DFT, onesided", "DFT", (Tensor((2, 15, 1)),), dict(onesided=1), opset=17),
    Case("DFT, inverse", "DFT", (Tensor((2, 9, 2)),), dict(inverse=1), opset=17),
    Case("DFT of a length, axis 0", "DFT", (Tensor((7, 3, 1)), constant(10, np.int64), constant(0, np.int64))),
    Case("DFT, cut", "DFT", (Tensor((2, 9, 2)), constant(5, np.int64))),
    Case(
        "STFT", "STFT", (Tensor((2, 40, 1)), constant(6, np.int64), constant(np.hanning(16), np.float32)), opset=17
    ),
    Case(
        "STFT of a signal without parts, by a window that is an input", "STFT",
        (Tensor((2, 41)), constant(7, np.int64), Tensor((16,))), opset=17,
    ),
    Case(
        "STFT of a length", "STFT", (Tensor((1, 33, 1)), constant(5, np.int64), None, constant(11, np.int64)),
        dict(onesided=0), opset=17,
    ),
]  # fmt: skip
