"""GridSample: every mode and padding computes what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest
from support.judge import Net, compare

import cpuruntime as ov


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_grid_sample(mode: str, padding: str, aligned: int) -> None:
    n = Net(opset=20)
    x, grid = n.input(2, 5, 7, 9), n.input(2, 6, 11, 2)
    n.output(n("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=aligned))
    random = np.random.default_rng(0)
    feeds = {"x0": random.standard_normal((2, 5, 7, 9)), "x1": random.uniform(-1.4, 1.4, (2, 6, 11, 2))}
    compare(n.model(), {k: v.astype(np.float32) for k, v in feeds.items()}, config={"INFERENCE_NUM_THREADS": 2})


def test_names_and_defaults_of_the_first_version() -> None:
    n = Net(opset=16)
    x, grid = n.input(1, 3, 8, 8), n.input(1, 4, 4, 2)
    n.output(n("GridSample", x, grid), *(n("GridSample", x, grid, mode=mode) for mode in ("bicubic", "bilinear")))
    compare(n.model())


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
