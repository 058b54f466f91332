"""Sizes of caches that estimates are made for, from what the topology knows."""

from __future__ import annotations

from cpuruntime.host.caches import Caches, caches
from cpuruntime.host.processors import Cache


def test_levels_of_a_core_and_its_share_of_the_last() -> None:
    first, second, third = Cache(1, 48 * 2**10, (0,)), Cache(2, 2**20, (0,)), Cache(3, 2**25, (0, 1))
    assert Caches.of([first, second, third]) == Caches(2**20, 2**25, 48 * 2**10, 2**25)
    other = Cache(1, 2**15, (1,)), Cache(2, 2**21, (1,))
    assert Caches.of([first, Cache(2, 2**22, (0,)), *other, third]) == Caches(2**21, 2**25, 2**15, 2**24)


def test_without_a_third_level_the_second_is_the_last() -> None:
    assert Caches.of([Cache(1, 2**15, (0,)), Cache(2, 2**22, (0, 1))]) == Caches(2**22, 2**22, 2**15, 2**22)


def test_what_is_unknown_is_guessed() -> None:
    assert Caches.of([]) == Caches()


def test_this_machine() -> None:
    assert 2**12 <= caches().second <= caches().last
