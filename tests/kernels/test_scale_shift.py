"""Scale and shift by channel in both layouts, with activations."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, Guarded, blocked, blocked_holding, edge_sizes, guarded, holding, run

from cpuruntime.ops import scale_shift
from cpuruntime.ops.scale_shift import scale_shift_kernel


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def apply(
    target: Guarded, source: Guarded, scale: np.ndarray, shift: np.ndarray, nest: dict[str, int], activation: str = "",
    **fields: float,
) -> None:  # fmt: skip
    kernel = scale_shift_kernel(activation)
    second, third = holding(scale), holding(shift)
    given = nest | fields | {"first": source.address, "second": second.address, "third": third.address}
    given["target"] = target.address
    run(kernel, target, **dict.fromkeys(kernel.arguments.names or (), 0) | given)


def expected(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x.astype(np.float64) * scale.reshape(shape) + shift.reshape(shape)


@pytest.mark.every_isa
@pytest.mark.parametrize("channels", [1, LANES, 2 * LANES + 3])
@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize("halos", [((0, 0, 0, 0), (0, 0, 0, 0)), ((1, 1, 2, 1), (0, 2, 0, 1))])
def test_blocked(channels: int, width: int, halos: tuple[tuple[int, int, int, int], ...]) -> None:
    x = values((2, channels, 3, width))
    source, target = blocked_holding(x, halos[0]), blocked(x.shape, halos[1])
    blocks = target.array.shape[1]
    scale, shift = values((blocks * LANES,), 1), values((blocks * LANES,), 2)
    nest = scale_shift.blocked(target.array.shape[:4], source.array.strides[:3], target.array.strides[:3])
    apply(target, source, scale, shift, nest)
    np.testing.assert_allclose(target.plain(), expected(x, scale[:channels], shift[:channels]), rtol=1e-5, atol=1e-6)
    assert np.isfinite(target.array).all()


def test_blocked_work_is_whole_rows() -> None:
    """Without halos a whole channel block is one row of the loop nest."""
    strides = (4 * 3 * 5 * 16 * LANES, 3 * 5 * 4 * LANES, 5 * 4 * LANES)
    nest = scale_shift.blocked((1, 4, 3, 5), strides, strides)
    assert nest["size5"] == 3 * 5 * LANES
    assert nest["size4"] == 4


@pytest.mark.every_isa
@pytest.mark.parametrize("inner", edge_sizes())
def test_plain(inner: int) -> None:
    for outer, channels in ((2, 3), (1, LANES + 1)):
        x = values((outer, channels, inner))
        scale, shift = values((channels,), 1), values((channels,), 2)
        target = guarded(x.shape)
        apply(target, holding(x), scale, shift, scale_shift.plain(*x.shape))
        np.testing.assert_allclose(target.array, expected(x, scale, shift), rtol=1e-5, atol=1e-6)


def test_clamp_keeps_nan() -> None:
    x, scale, shift = values((2, 3, 2 * LANES + 1)), values((3,), 1), values((3,), 2)
    x[0, 0, 0] = x[1, 2, -1] = np.nan
    target = guarded(x.shape)
    apply(target, holding(x), scale, shift, scale_shift.plain(*x.shape), clamp=1, low=0.0, high=1.5)
    np.testing.assert_allclose(target.array, np.clip(expected(x, scale, shift), 0, 1.5), rtol=1e-5, atol=1e-6)


def test_activation_with_parameters() -> None:
    x, scale, shift = values((2, 3, 2 * LANES + 1)), values((3,), 1), values((3,), 2)
    target = guarded(x.shape)
    nest = scale_shift.plain(*x.shape)
    apply(target, holding(x), scale, shift, nest, "LeakyRelu", alpha=0.25, clamp=1, low=-1.0, high=np.inf)
    y = expected(x, scale, shift)
    np.testing.assert_allclose(target.array, np.maximum(np.where(y < 0, y / 4, y), -1), rtol=1e-5, atol=1e-6)
