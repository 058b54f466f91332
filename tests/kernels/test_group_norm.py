"""Moments of channels and factors of groups, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, blocked_holding, guarded, holding, run

from cpuruntime.ops.group_norm import channel_moments, group_factors

pytestmark = pytest.mark.every_isa


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 19, 5, 7), (1, 40, 1, 33), (2, 16, 9, 4)])
@pytest.mark.parametrize("offset", [0, 100])
def test_moments(shape: tuple[int, int, int, int], offset: float) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + np.float32(offset)
    given = blocked_holding(x, (0, 1, 0, 2))
    blocks = given.array.shape[1]
    moments = guarded((shape[0], blocks, 2, LANES))
    sizes = dict(batch=shape[0], blocks=blocks, height=shape[2], width=shape[3])
    run(channel_moments, moments, **given.fields("source"), moments=moments.address, **sizes)
    found = moments.array.transpose(2, 0, 1, 3).reshape(2, shape[0], -1)[:, :, : shape[1]]
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found[0], wide.mean((2, 3)), 1e-6, 1e-6)
    np.testing.assert_allclose(found[1], wide.var((2, 3)), 1e-5, 1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(3, 3), (6, 2), (40, 5), (48, 1)])
def test_factors(channels: int, groups: int) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((2, channels, 50)) + random.standard_normal((2, channels, 1))
    weights, bias = random.standard_normal((2, channels)).astype(np.float32)
    blocks = -(-channels // LANES)
    moments = np.full((2, 2, blocks * LANES), 9, np.float32)
    moments[:, 0, :channels], moments[:, 1, :channels] = x.mean(2), x.var(2)
    given = holding(moments.reshape(2, 2, blocks, LANES).transpose(0, 2, 1, 3).copy())
    scale, shift = guarded((2, blocks * LANES)), guarded((2, blocks * LANES))
    held = holding(weights), holding(bias)
    run(
        group_factors, scale, shift, moments=given.address, weights=held[0].address, bias=held[1].address,
        scale=scale.address, shift=shift.address, batch=2, blocks=blocks, channels=channels, groups=groups,
        epsilon=1e-3,
    )  # fmt: skip
    found = x * scale.array[:, :channels, None] + shift.array[:, :channels, None]
    parts = x.reshape(2, groups, -1)
    wanted = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-3)
    wanted = wanted.reshape(x.shape) * weights[:, None] + bias[:, None]
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
    assert not scale.array[:, channels:].any()
    assert not shift.array[:, channels:].any()
