"""Random inputs: seeded, so that two runs infer the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SEED = 0


def random_array(shape: Sequence[int], dtype: np.dtype, generator: np.random.Generator) -> np.ndarray:
    """Floats from 0 to 1, whole numbers from 0 to 255 as far as `dtype` goes, or booleans."""
    if dtype.kind in "iu":
        return generator.integers(0, min(255, np.iinfo(dtype).max), shape, dtype, endpoint=True)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.random(shape).astype(dtype)
