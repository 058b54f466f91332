"""Random inputs: seeded, so that two runs infer the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SEED = 0


def random_array(
    shape: Sequence[int], dtype: np.dtype, generator: np.random.Generator, rows: int | None = None
) -> np.ndarray:
    """Floats from 0 to 1, booleans, or whole numbers below `rows`; without it, up to 255 as far as `dtype` goes."""
    if dtype.kind in "iu":
        most = np.iinfo(dtype).max
        return generator.integers(0, min(255 if rows is None else rows - 1, most), shape, dtype, endpoint=True)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.random(shape).astype(dtype)
