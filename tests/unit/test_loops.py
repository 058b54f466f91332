"""Collapsing the dimensions of a loop nest never changes which elements are visited."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.tiles.loops import REPEAT, broadcast, collapse, contiguous, nest


def offsets(sizes: list[int], strides: list[int]) -> list[int]:
    """Byte offsets in the order of the walk; a repeated vector starts again after LANES elements."""
    found = []
    for index in product(*map(range, sizes)):
        terms = [(i % LANES * 4 if stride == REPEAT else i * stride) for i, stride in zip(index, strides)]
        found.append(sum(terms))
    return found


@pytest.mark.parametrize("seed", range(50))
def test_the_walk_stays_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = random.choice([1, 1, 2, 3], size=random.integers(0, 7)).tolist()
    whole = contiguous(shape, 4)
    operands = [whole]
    for _ in range(2):
        kept = [size if random.random() < 0.6 else 1 for size in shape]
        padding = random.integers(0, 2)
        operands.append(broadcast(kept, contiguous([n + padding for n in kept], 4), shape))
    sizes, strides = collapse(shape, *operands)
    assert 1 not in sizes
    for operand, walk in zip(operands, strides):
        assert offsets(sizes, walk) == offsets(shape, list(operand))


def test_contiguous_operands_become_one_row() -> None:
    strides = contiguous((2, 3, 4), 8)
    assert strides == (96, 32, 8)
    assert collapse((2, 3, 4), strides, strides) == ([24], [[8], [8]])
    assert collapse((2, 3, 4), strides, (0, 0, 0)) == ([24], [[8], [0]])
    assert collapse((1, 1), (4, 4), (4, 4)) == ([], [[], []])


def test_a_vector_repeated_over_pixels_is_merged_with_them() -> None:
    shape = (2, 3, 5, LANES)
    whole, channel = contiguous(shape, 4), (VECTOR_BYTES, 0, 0, 4)
    sizes, strides = collapse(shape, whole, whole, channel, repeat=True)
    assert sizes == [2, 15 * LANES]
    assert strides == [[15 * VECTOR_BYTES, 4], [15 * VECTOR_BYTES, 4], [VECTOR_BYTES, REPEAT]]
    assert offsets(sizes, strides[2]) == offsets(list(shape), list(channel))
    assert collapse(shape, whole, whole, channel)[0] == [2, 15, LANES]


@pytest.mark.parametrize("walks", [[(0, 4), (0, 4)], [(VECTOR_BYTES, 4), (0, 0)], [(2 * VECTOR_BYTES, 4), (0, 4)]])
def test_what_is_no_repeated_vector_is_left_alone(walks: list[tuple[int, int]]) -> None:
    shape = (5, LANES)
    target = contiguous(shape, 4)
    assert collapse(shape, target, *walks, repeat=True) == collapse(shape, target, *walks)


def test_nest_fills_the_last_dimensions() -> None:
    strides = contiguous((3, 4), 4)
    fields = nest((3, 4), target=strides, first=(0, 4))
    assert [fields[f"size{d}"] for d in range(6)] == [1, 1, 1, 1, 3, 4]
    assert [fields[f"target{d}"] for d in range(6)] == [0, 0, 0, 0, 16, 4]
    assert [fields[f"first{d}"] for d in range(6)] == [0, 0, 0, 0, 0, 4]


def test_more_than_six_dimensions_are_refused() -> None:
    shape = (2, 3) * 4
    scattered = tuple(1000 * 4**d for d in range(8))
    with pytest.raises(ValueError, match="6 dimensions"):
        nest(shape, target=contiguous(shape, 4), first=scattered)
    assert nest(shape, target=contiguous(shape, 4))["size5"] == 6**4


@pytest.mark.parametrize(("shape", "result"), [((3,), (2,)), ((2, 3), (3,)), ((2, 1), (3, 4))])
def test_shapes_that_do_not_broadcast_are_refused(shape: tuple[int, ...], result: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not broadcast"):
        broadcast(shape, contiguous(shape, 4), result)
