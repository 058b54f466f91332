"""Strided copies, gather and fill against NumPy's views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.kernels import LANES, Guarded, edge_sizes, guarded, holding, run

from cpuruntime.ops import movement

ELEMENTS = [np.uint8, np.int16, np.float32, np.int64]


def numbers(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 120, shape).astype(dtype)


def copy(view: np.ndarray, target: Guarded, kernel: Any = None) -> None:
    """Copies `view` into the target by the planned kernel, which has to be `kernel` when one is given."""
    chosen, fields = movement.plan_copy(view.shape, view.strides, target.array.strides, view.itemsize)
    assert kernel is None or chosen is kernel
    run(chosen, target, source=view.__array_interface__["data"][0], target=target.address, **fields)  # type: ignore[arg-type]
    np.testing.assert_array_equal(target.array, view)


def copy_plain(view: np.ndarray, kernel: Any = None, offset: int = 0) -> None:
    copy(view, guarded(view.shape, view.dtype, offset=offset), kernel)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("size", [2, 3, 7, *edge_sizes()])
def test_runs(dtype: Any, size: int) -> None:
    whole = numbers((5, 3, 2 * size + 1), dtype)
    copy_plain(whole[:, 1:, 1 : size + 1], movement.copy_runs if size > 1 else None, offset=np.dtype(dtype).itemsize)
    copy_plain(whole[:, :, :size].transpose(1, 0, 2))


@pytest.mark.parametrize("extra", [-4, 0, 4])
def test_long_runs_are_shared_by_threads(extra: int) -> None:
    elements = (2 * movement.PIECE_BYTES + extra) // 4
    copy_plain(numbers((elements,)), movement.copy_runs)
    copy_plain(numbers((2, elements + 3))[:, :elements], movement.copy_runs)


@pytest.mark.every_isa
@pytest.mark.parametrize("height", edge_sizes())
def test_transpose_of_the_last_two(height: int) -> None:
    for width in edge_sizes()[1:]:
        kernel = movement.copy_transposed if height > 1 and width > 1 else movement.copy_runs
        copy_plain(numbers((2, height, width)).transpose(0, 2, 1), kernel)


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("shape", [(1, 5), (3, 2), (17, 33), (70, 129)])
def test_transpose_of_other_elements(dtype: Any, shape: tuple[int, int]) -> None:
    copy_plain(numbers(shape, dtype).T)


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("axes", [(3, 1, 0, 2), (0, 2, 3, 1), (0, 3, 1, 2), (2, 0, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)])
def test_transposes_of_rank_four(dtype: Any, axes: tuple[int, ...]) -> None:
    copy_plain(numbers((3, 5, LANES + 2, 7), dtype).transpose(axes))


def test_transpose_of_rank_eight() -> None:
    copy_plain(numbers((2, 3, 2, 3, 2, 3, 2, 3)).transpose(7, 5, 3, 1, 6, 4, 2, 0))
    with pytest.raises(ValueError, match="9 separate dimensions; 8"):
        movement.plan_copy((2,) * 9, (1,) * 9, tuple(4 * 3**i for i in range(9)), 4)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", ELEMENTS)
def test_slices_with_steps(dtype: Any) -> None:
    whole = numbers((6, 9, 37), dtype)
    for view in (whole[::2, ::3, ::5], whole[:, :, ::-1], whole[::-1, 1::-1], whole[3:4, ::-2, 1::2], whole[:, :, 3]):
        copy_plain(view)


@pytest.mark.parametrize("dtype", ELEMENTS)
def test_expand(dtype: Any) -> None:
    for shape in ((3, 1, 5), (1, 4, 1), (3, 4, 1), (1, 1, 1)):
        copy_plain(np.broadcast_to(numbers(shape, dtype), (3, 4, 5)))
    copy_plain(np.broadcast_to(numbers((7,), dtype)[:, None], (7, 40)))


def test_tile_concat_and_pad_write_into_larger_targets() -> None:
    part = numbers((2, 3, 4))
    copy(np.broadcast_to(part, (5, 2, 3, 4)), guarded((5, 2, 3, 4), strides=(120, 60, 16, 4)))
    copy(part, guarded(part.shape, strides=(240, 40, 4)))
    copy(part.transpose(2, 0, 1), guarded((4, 2, 3), strides=(64, 24, 4)))
    copy(part, guarded(part.shape, strides=(4, 8, 32)))


@pytest.mark.every_isa
def test_depth_to_space() -> None:
    x = numbers((2, 8, 3, 5))
    copy_plain(x.reshape(2, 2, 2, 2, 3, 5).transpose(0, 3, 4, 1, 5, 2))


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 4)])
def test_empty(shape: tuple[int, ...]) -> None:
    target = guarded(shape)
    strides = tuple(8 * s for s in target.array.strides)
    for source_strides in (target.array.strides, strides, strides[::-1]):
        kernel, fields = movement.plan_copy(shape, source_strides, target.array.strides, 4)
        run(kernel, target, source=0, target=target.address, **fields)  # type: ignore[arg-type]


def gather(data: np.ndarray, indices: np.ndarray, axis: int, fault: int = 0) -> np.ndarray:
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    source, given, target = holding(data, offset=data.itemsize), holding(indices), guarded(shape, data.dtype)
    run(
        movement.gather, target, source=source.address, target=target.address, indices=given.address,
        index_bytes=indices.itemsize, fault=fault, outer=int(np.prod(data.shape[:axis])), axis=data.shape[axis],
        count=indices.size, inner_bytes=int(np.prod(data.shape[axis + 1 :])) * data.itemsize,
    )  # fmt: skip
    return target.array


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("index_type", [np.int64, np.int32])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(dtype: Any, index_type: Any, axis: int) -> None:
    data = numbers((5, 7, LANES + 3), dtype)
    indices = np.array([[0, -1, 4], [2, 2, -5]], index_type)
    np.testing.assert_array_equal(gather(data, indices, axis), np.take(data, indices, axis))


@pytest.mark.parametrize("bad", [5, -6, 2**62, -(2**63)])
def test_gather_of_an_index_out_of_range_is_reported(bad: int) -> None:
    data, indices = numbers((5, 3)), np.array([1, bad, 4])
    fault = np.zeros(1, np.int64)
    np.testing.assert_array_equal(gather(data, indices, 0, fault.ctypes.data), data[[1, 0, 4]])
    assert fault[0] == 1
    gather(data, indices, 0)
    fault[0] = 0
    gather(data, np.array([0, -5, 4]), 0, fault.ctypes.data)
    assert fault[0] == 0


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("size", [0, 1, 3, 8, 63, movement.PIECE_BYTES, 2 * movement.PIECE_BYTES + 3])
def test_fill(dtype: Any, size: int) -> None:
    value = np.array([119], dtype) if dtype != np.float32 else np.array([-1.5], dtype)
    pattern = int(np.repeat(value, 8 // value.itemsize).view(np.int64)[0])
    target = guarded((size,), dtype, offset=value.itemsize)
    run(movement.fill, target, target=target.address, size=target.array.nbytes, pattern=pattern)
    assert (target.array == value).all()


def test_fill_with_negative_bytes() -> None:
    pattern = np.arange(-9, -1, dtype=np.int8)
    target = guarded((21,), np.int8)
    run(movement.fill, target, target=target.address, size=21, pattern=int(pattern.view(np.int64)[0]))
    np.testing.assert_array_equal(target.array, np.resize(pattern, 21))
