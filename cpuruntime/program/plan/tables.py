"""Tables of which the content follows from a few numbers, made by functions that have a name in stored models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def whole_numbers(*numbers: int) -> np.ndarray:
    """The numbers themselves."""
    return np.array(numbers, np.int64)


def zeros(count: int) -> np.ndarray:
    """So many zeros."""
    return np.zeros(count, np.float32)


NAMED: dict[str, Callable[..., np.ndarray]] = {make.__name__: make for make in (whole_numbers, zeros)}
