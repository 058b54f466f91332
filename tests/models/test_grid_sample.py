"""GridSample: nothing outside of the image is read."""

from __future__ import annotations

import numpy as np
import pytest
from support.judge import Net

import cpuruntime as ov


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize(("padding", "expected"), [("zeros", 0), ("border", 1), ("reflection", 1)])
def test_places_far_outside_and_no_places(mode: str, padding: str, expected: float) -> None:
    """Nothing outside of the image is read, whatever the grid says."""
    n = Net(opset=20)
    n.output(n("GridSample", n.input(1, 3, 8, 8), n.input(1, 1, 8, 2), mode=mode, padding_mode=padding))
    far = [[1e30, 0], [0, -1e30], [np.inf, 0], [0, -np.inf], [np.nan, 0], [0, np.nan], [7, 7], [-7, 0]]
    compiled = ov.Core().compile_model(n.model(), "CPU")
    assert not compiled.explain().fallbacks
    found = compiled([np.ones((1, 3, 8, 8), np.float32), np.array(far, np.float32).reshape(1, 1, 8, 2)])[0]
    np.testing.assert_allclose(found, np.full((1, 3, 1, 8), expected), 1e-6, 1e-6)
