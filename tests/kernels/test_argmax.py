"""ArgMax and ArgMin along any axis, ties included, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import edge_sizes, guarded, holding, run

from cpuruntime.ops.argmax import argmax_kernel

pytestmark = pytest.mark.every_isa


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("inner", edge_sizes())
def test_index(largest: bool, last: bool, inner: int) -> None:
    for outer, length in ((1, 1), (3, 2), (2, 37)):
        x = np.random.default_rng(0).integers(-3, 4, (outer, length, inner)).astype(np.float32)
        given, result = holding(x), guarded((outer, inner), np.int64)
        run(
            argmax_kernel(largest, last), result, source=given.address, target=result.address, outer=outer,
            length=length, inner=inner,
        )  # fmt: skip
        ordered = x[:, ::-1] if last else x
        index = ordered.argmax(1) if largest else ordered.argmin(1)
        np.testing.assert_array_equal(result.array, length - 1 - index if last else index)
