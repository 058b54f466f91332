"""Conversions between layouts and channel rearrangement: all exact."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import LANES, Blocked, Guarded, blocked, blocked_holding, edge_sizes, guarded, holding, run

from cpuruntime.ops import reorder

CHANNELS = [1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5]
HALO = (1, 2, 1, 3)
NO_HALO = (0, 0, 0, 0)


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


def plain_fields(name: str, tensor: Guarded) -> dict[str, int]:
    batch, channel, row = tensor.array.strides[:3]
    return {name: tensor.address, f"{name}_batch": batch, f"{name}_channel": channel, f"{name}_row": row}


def sizes_of(shape: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(("batch", "channels", "height", "width"), shape))


def gaps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a plain tensor with gaps after rows, channels and images."""
    _, channels, height, width = shape
    row = 4 * (width + 1)
    return (channels * (height * row + 8) + 4, height * row + 8, row, 4)


def check_both_ways(shape: tuple[int, int, int, int], halo: tuple[int, int, int, int], dense: bool = True) -> None:
    x = data(*shape)
    strides = None if dense else gaps(shape)
    source, tensor = holding(x, strides, offset=4), blocked(shape, halo, halo_value=7.0)
    run(reorder.to_blocked, tensor, **plain_fields("source", source), **tensor.fields("target"), **sizes_of(shape))
    np.testing.assert_array_equal(tensor.plain(), x)
    assert not tensor.array[:, -1, :, :, (shape[1] - 1) % LANES + 1 :].any()
    again = guarded(shape, strides=strides, offset=4)
    run(reorder.from_blocked, again, **tensor.fields("source"), **plain_fields("target", again), **sizes_of(shape))
    np.testing.assert_array_equal(again.array, x)


@pytest.mark.every_isa
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("halo", [NO_HALO, HALO], ids=["dense", "halo"])
def test_blocked_and_back(channels: int, halo: tuple[int, int, int, int]) -> None:
    for width in edge_sizes():
        check_both_ways((1, channels, 2, width), halo)
    check_both_ways((3, channels, 7, 7), halo)


@pytest.mark.parametrize("halo", [NO_HALO, HALO], ids=["dense", "halo"])
def test_rows_longer_than_a_chunk_and_plain_tensors_with_gaps(halo: tuple[int, int, int, int]) -> None:
    for width in (reorder.CHUNK - 1, reorder.CHUNK, 2 * reorder.CHUNK + 1):
        check_both_ways((1, LANES + 3, 2, width), halo)
    check_both_ways((2, LANES + 3, 3, LANES + 2), halo, dense=False)


@pytest.mark.every_isa
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_pixels(channels: int, batch: int) -> None:
    for width in edge_sizes():
        x = data(batch, channels, 3, width)
        row = 4 * channels * (width + 2)
        source, target = holding(x), guarded((batch, 3, width, channels), strides=(4 * row, row, 4 * channels, 4))
        run(
            reorder.to_pixels, target, **plain_fields("source", source), **sizes_of(x.shape),
            target=target.address, target_batch=4 * row, target_row=row,
        )  # fmt: skip
        np.testing.assert_array_equal(target.array, x.transpose(0, 2, 3, 1))


def gather(source: Blocked, picks: list[int], chunk: int = 0) -> Blocked:
    n, _, height, width = source.array.shape[:4]
    entries, starts = reorder.channel_table(picks)
    target = blocked((n, len(picks), height, width), HALO, halo_value=7.0)
    run(
        reorder.gather_channels, target, **source.fields("source"), entries=entries.ctypes.data,
        starts=starts.ctypes.data, **target.fields("target"), batch=n, blocks=target.array.shape[1], height=height,
        width=width, chunk=chunk or height,
    )  # fmt: skip
    assert not target.array[:, -1, :, :, (len(picks) - 1) % LANES + 1 :].any()
    return target


@pytest.mark.every_isa
@pytest.mark.parametrize("width", [1, 3, 6, 7, 8, 15])
@pytest.mark.parametrize("groups", [2, 3, 4])
def test_channel_shuffle(width: int, groups: int) -> None:
    channels = groups * (LANES - 3)
    x = data(3, channels, 2, width)
    picks = [c % groups * (channels // groups) + c // groups for c in range(channels)]
    target = gather(blocked_holding(x), picks)
    shuffled = x.reshape(3, groups, channels // groups, 2, width).swapaxes(1, 2).reshape(x.shape)
    np.testing.assert_array_equal(target.plain(), shuffled)


@pytest.mark.every_isa
@pytest.mark.parametrize("channels", [(1, 1), (LANES - 1, 3), (LANES, LANES + 1, 5), (2, 3 * LANES + 5, 1, LANES)])
def test_concat_and_split(channels: tuple[int, ...]) -> None:
    """The parts lie in whole blocks of their own at first."""
    parts = [data(2, c, 3, 5) + i for i, c in enumerate(channels)]
    padded = [np.pad(part, [(0, 0), (0, -part.shape[1] % LANES), (0, 0), (0, 0)]) for part in parts]
    starts = np.cumsum([0, *(part.shape[1] for part in padded)]).tolist()
    picks = [start + c for start, count in zip(starts, channels) for c in range(count)]
    whole = gather(blocked_holding(np.concatenate(padded, axis=1), HALO, halo_value=1e30), picks, chunk=2)
    np.testing.assert_array_equal(whole.plain(), np.concatenate(parts, axis=1))
    first = 0
    for part, count in zip(parts, channels):
        np.testing.assert_array_equal(gather(whole, [*range(first, first + count)]).plain(), part)
        first += count


def test_a_channel_may_be_picked_often() -> None:
    x = data(1, LANES + 2, 2, 4)
    target = gather(blocked_holding(x), [LANES + 1] * (LANES + 3))
    np.testing.assert_array_equal(target.plain(), np.repeat(x[:, -1:], LANES + 3, axis=1))


@pytest.mark.every_isa
@pytest.mark.parametrize("halo", [NO_HALO, HALO, (1, 1, 1, 1), (3, 0, 0, 0), (0, 2, 0, 0), (0, 0, 1, 0), (0, 0, 0, 2)])
@pytest.mark.parametrize("size", [(1, 1), (2, 5)])
@pytest.mark.parametrize("chunk", [1, 2, 9])
def test_zero_halo(halo: tuple[int, int, int, int], size: tuple[int, int], chunk: int) -> None:
    top, left, bottom, right = halo
    n, blocks, height, width = 2, 3, *size
    whole = guarded((n, blocks, top + height + bottom, left + width + right, LANES))
    inside = whole.array[:, :, top : top + height, left : left + width]
    fields = dict(zip(("target_batch", "target_block", "target_row"), inside.strides))
    run(
        reorder.zero_halo, whole, target=inside.ctypes.data, **fields, batch=n, blocks=blocks, height=height,
        width=width, top=top, left=left, bottom=bottom, right=right, chunk=chunk,
    )  # fmt: skip
    assert np.isnan(inside).all()
    inside[...] = 0
    assert not whole.array.any()
