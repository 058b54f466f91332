"""Conversions of bytes between layouts: all exact."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, UNWRITTEN, guarded, holding, run

from cpuruntime.ops import byte_layouts, reorder


def places(name: str, array: np.ndarray, *parts: str) -> dict[str, int]:
    return {name: array.ctypes.data, **{f"{name}_{part}": n for part, n in zip(parts, array.strides)}}


@pytest.mark.every_isa
@pytest.mark.parametrize("channels", [1, LANES, LANES + 2, 2 * LANES + 3])
@pytest.mark.parametrize("width", [1, LANES, 3 * LANES + 5, reorder.CHUNK + 2])
def test_blocked_and_back(channels: int, width: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, channels, 3, width), np.uint8)
    blocks, left, right = -(-channels // LANES), 2, 1  # pixels beside the rows that are not touched
    whole = guarded((2, blocks, 3, left + width + right, LANES), np.uint8)
    inside = whole.array[:, :, :, left : left + width]
    sizes = dict(batch=2, height=3, width=width)
    target = places("target", inside, "batch", "block", "row")
    held = holding(x)
    source = places("source", held.array, "batch", "channel", "row")
    run(byte_layouts.to_blocked_bytes, whole, **source, **target, **sizes, channels=channels)
    assert (whole.array[:, :, :, :left] == UNWRITTEN).all()
    assert (whole.array[:, :, :, left + width :] == UNWRITTEN).all()
    found = inside.transpose(0, 1, 4, 2, 3).reshape(2, -1, 3, width)
    np.testing.assert_array_equal(found[:, :channels], x)
    again = guarded(x.shape, np.uint8, offset=1)
    source = places("source", inside, "batch", "block", "row")
    target = places("target", again.array, "batch", "channel", "row")
    run(byte_layouts.from_blocked_bytes, again, **source, **target, **sizes, channels=channels)
    np.testing.assert_array_equal(again.array, x)
