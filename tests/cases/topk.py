"""TopK: axes, types, all and one of the elements, many of them equal."""

from __future__ import annotations

from itertools import product

import numpy as np

from cases.case import Case, Tensor, integers

CASES = [
    Case(
        f"{'largest' if largest else 'least'} {k} {np.dtype(dtype).name} in axis {axis} of {'x'.join(map(str, shape))}",
        "TopK",
        (Tensor(shape, dtype, step=2), integers(k)),
        dict(axis=axis, largest=largest),
        outputs=2,
    )
    for (shape, axis, k), largest, dtype in product(
        (((3, 100), 1, 7), ((40, 5, 3), 0, 40), ((2, 30, 4), 1, 1), ((9,), 0, 9), ((3, 33, 4), 1, 16)),
        (0, 1),
        (np.float32, np.int64, np.int32),
    )
]
