"""Every spelling of a channel shuffle is recognised, and nothing else."""

from __future__ import annotations

import pytest
from support.graphs import Builder, attributes_of, kinds, optimise

NAME = "channel_shuffle"


def shuffle(shape: list[int], split: list[int], perm: list[int], end: list[int] | None = None) -> list[str]:
    b = Builder()
    x = b("Exp", b.input(*shape))
    y = b("Transpose", b("Reshape", x, b.integers(*split)), perm=perm)
    graph = b.graph(b("Neg", b("Reshape", y, b.integers(*(end or shape)))))
    after = optimise(graph, NAME)
    if "+ChannelShuffle" in kinds(after):
        assert attributes_of(after, "ChannelShuffle", "group") == [3]
        assert after.nodes[1].origins == ["n1", "n2", "n3"]
    return kinds(after)


@pytest.mark.parametrize(
    ("shape", "split", "perm"),
    [
        ([2, 12, 4, 5], [2, 3, 4, 4, 5], [0, 2, 1, 3, 4]),
        ([2, 12, 4, 5], [2, 3, 4, 20], [0, 2, 1, 3]),
        ([1, 12, 4, 5], [1, 3, 4, 4, 5], [0, 2, 1, 3, 4]),
        ([1, 12, 4, 5], [3, 4, 20], [1, 0, 2]),
        ([1, 12, 4, 5], [3, 1, 4, 4, 5], [2, 1, 0, 3, 4]),
        ([2, 12, 1, 1], [2, 3, 4], [0, 2, 1]),
        ([2, 12, 7], [2, 3, 4, 7], [0, 2, 1, 3]),
        ([2, 12, 2, 3, 2], [2, 3, 2, 2, 12], [0, 2, 3, 1, 4]),
    ],
)
def test_all_spellings(shape: list[int], split: list[int], perm: list[int]) -> None:
    assert shuffle(shape, split, perm) == ["Exp", "+ChannelShuffle", "Neg"]


@pytest.mark.parametrize(
    ("shape", "split", "perm", "end"),
    [
        ([2, 12, 4, 5], [2, 3, 4, 4, 5], [0, 2, 1, 4, 3], None),
        ([2, 12, 4, 5], [2, 3, 4, 4, 5], [0, 2, 1, 3, 4], [2, 12, 5, 4]),
        ([2, 12, 4, 5], [2, 12, 5, 4], [0, 1, 3, 2], None),
        ([2, 12, 4, 5], [3, 8, 4, 5], [1, 0, 2, 3], None),
        ([2, 12, 4, 4], [2, 6, 8, 4], [0, 2, 1, 3], None),
        ([2, 12, 4, 5], [2, 12, 4, 5], [0, 1, 3, 2], None),
        ([12, 10], [3, 4, 10], [1, 0, 2], None),
    ],
)
def test_other_moves_stay(shape: list[int], split: list[int], perm: list[int], end: list[int] | None) -> None:
    assert "+ChannelShuffle" not in shuffle(shape, split, perm, end)


def test_what_others_read_stays() -> None:
    b = Builder()
    split = b("Reshape", b.input(1, 4, 3), b.integers(1, 2, 2, 3))
    y = b("Reshape", b("Transpose", split, perm=[0, 2, 1, 3]), b.integers(1, 4, 3))
    assert kinds(optimise(b.graph(y, b("Neg", split)), NAME)) == ["+Reshape", "Transpose", "+Reshape", "Neg"]


def test_a_flatten_behind_it_does_not_hide_it() -> None:
    b = Builder()
    split = b("Reshape", b.input(1, 4, 3), b.integers(1, 2, 2, 3))
    y = b("Flatten", b("Reshape", b("Transpose", split, perm=[0, 2, 1, 3]), b.integers(1, 4, 3)))
    assert kinds(optimise(b.graph(y))) == ["+ChannelShuffle", "+Reshape"]
