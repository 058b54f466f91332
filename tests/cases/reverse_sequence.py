"""ReverseSequence: both orders of the axes, lengths that are inputs and constants, types."""

from __future__ import annotations

import numpy as np

from cases.case import Case, Tensor, integers

LENGTHS = Tensor((4,), np.int64, values=[5, 1, 3, 4])

CASES = [
    Case("by time", "ReverseSequence", (Tensor((5, 4, 3)), LENGTHS)),
    Case("by batch", "ReverseSequence", (Tensor((4, 5)), LENGTHS), dict(batch_axis=0, time_axis=1)),
    Case("int64", "ReverseSequence", (Tensor((5, 4, 2), np.int64), integers(2, 5, 1, 4))),
    Case("bytes", "ReverseSequence", (Tensor((5, 4, 7), np.uint8), LENGTHS)),
]
