"""Normalisations of channels, groups, instances and rows."""

from __future__ import annotations

from itertools import product

import numpy as np
from support.kernels import LANES, edge_sizes

from cases.case import Case, Tensor, weights


def positive(*shape: int) -> Tensor:
    """Constants from 0.5 to 1.5."""
    return Tensor(shape, np.float32, low=0.5, high=1.5, constant=True)


CASES = [
    *(
        Case(
            f"LRN {size} of {channels} channels, beta {beta}",
            "LRN",
            (Tensor((2, channels, 6, 7)),),
            dict(size=size, alpha=0.3, beta=beta, bias=1.5),
        )
        for size, channels, beta in product((1, 3, 5, 9), (1, LANES, 3 * LANES + 5), (0.5, 0.6, 0.75))
    ),
    *(
        Case(
            f"BatchNormalization {'x'.join(map(str, shape))}",
            "BatchNormalization",
            (Tensor(shape), *(part(shape[1]) for part in (positive, weights, weights, positive))),
        )
        for shape in ((2, 19, 6, 7), (5, 21), (3, 4, 9))
    ),
    *(
        Case(
            f"InstanceNormalization {'x'.join(map(str, shape))}",
            "InstanceNormalization",
            (Tensor(shape), positive(shape[1]), weights(shape[1])),
        )
        for shape in ((2, 6, 9, 7), (2, 40, 9, 7), (1, LANES, 1, 5), (2, 30, 11))
    ),
    *(
        Case(
            f"GroupNormalization {channels} by {groups}",
            "GroupNormalization",
            (Tensor((2, channels, 9, 7)), positive(channels), weights(channels)),
            dict(num_groups=groups, epsilon=1e-3),
        )
        for channels, groups in ((6, 2), (40, 4), (64, 2), (30, 30), (48, 1))
    ),
    *(
        Case(
            f"LayerNormalization of {length}",
            "LayerNormalization",
            (Tensor((5, length), low=-3, high=9), positive(length), weights(length)),
        )
        for length in (*edge_sizes()[1:], 768)
    ),
    *(
        Case(
            f"RMSNormalization of {length}",
            "RMSNormalization",
            (Tensor((5, length)), positive(length)),
            opset=23,
        )
        for length in (LANES + 1, 131)
    ),
]
