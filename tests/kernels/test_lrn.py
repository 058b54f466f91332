"""Local response normalisation against float64 and ONNX Runtime (odd sizes only).

ONNX's reference sums windows for the first channels only."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support.judge import onnx_runtime
from support.kernels import LANES, blocked, blocked_holding, run

from cpuruntime.ops.lrn import lrn

BETAS = [0.75, 0.5, 0.6, 1.0, 2.0]


def normalise(x: np.ndarray, size: int, alpha: float, beta: float, bias: float, pad_lane: float = 0.5) -> np.ndarray:
    source = blocked_holding(x, halo=(0, 1, 1, 2), halo_value=1e30, pad_lane=pad_lane)
    target = blocked(x.shape, halo=(1, 0, 2, 1), halo_value=7.0)
    batch, channels, height, width = x.shape
    run(
        lrn(beta), target, **source.fields("source"), **target.fields("target"),
        batch=batch, channels=channels, height=height, width=width, size=size, alpha=alpha, beta=beta, bias=bias,
    )  # fmt: skip
    lanes = target.array.shape[1] * LANES
    by_channel = target.array.transpose(0, 1, 4, 2, 3).reshape(batch, lanes, height, width)
    assert not by_channel[:, channels:].any()
    return target.plain()


def expected(x: np.ndarray, size: int, alpha: float, beta: float, bias: float) -> np.ndarray:
    squares = x.astype(np.float64) ** 2
    windows = [slice(max(0, c - (size - 1) // 2), c + size // 2 + 1) for c in range(x.shape[1])]
    sums = np.stack([squares[:, window].sum(axis=1) for window in windows], axis=1)
    return x / (bias + alpha / size * sums) ** beta


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32) * 4


@pytest.mark.every_isa
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, LANES, LANES + 1, 2 * LANES + 2, 4 * LANES + 3])
@pytest.mark.parametrize("beta", BETAS[:3])
def test_sizes(size: int, beta: float) -> None:
    x = data(1, 3 * LANES + 5, 2, 3)
    np.testing.assert_allclose(normalise(x, size, 0.7, beta, 1.5), expected(x, size, 0.7, beta, 1.5), rtol=2e-6)


@pytest.mark.parametrize("channels", [1, LANES - 1, LANES, LANES + 1, 2 * LANES, 3 * LANES + 5])
@pytest.mark.parametrize("beta", BETAS)
def test_channels(channels: int, beta: float) -> None:
    x = data(3, channels, 3, 5)
    np.testing.assert_allclose(normalise(x, 5, 1e-1, beta, 1.0), expected(x, 5, 1e-1, beta, 1.0), rtol=2e-6)


@pytest.mark.every_isa
@pytest.mark.parametrize("pad_lane", [1e30, -3.0])
def test_lanes_beyond_the_channels_count_as_zeros(pad_lane: float) -> None:
    x = data(1, LANES + 1, 1, 2)
    for bias in (1.0, 0.0):
        result = normalise(x, 7, 0.5, 0.75, bias, pad_lane)
        np.testing.assert_allclose(result, expected(x, 7, 0.5, 0.75, bias), rtol=2e-6)


@pytest.mark.parametrize(("size", "alpha", "beta", "bias"), [(5, 1e-4, 0.75, 1), (9, 2e-3, 0.5, 2), (3, 0.1, 0.9, 1)])
def test_like_onnx_runtime(size: int, alpha: float, beta: float, bias: float) -> None:
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=alpha, beta=beta, bias=float(bias))
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in "xy"]
    graph = helper.make_graph([node], "lrn", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
    x = data(2, 21, 4, 3)
    theirs = onnx_runtime(model, {"x": x})[0]
    np.testing.assert_allclose(normalise(x, size, alpha, beta, bias), theirs, rtol=2e-6)
