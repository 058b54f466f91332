"""The arena: storages that are alive together never share memory, others do where they can."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cpuruntime.host.memory import ALIGNMENT
from cpuruntime.program.plan.arena import assign_slots, plan_arena
from cpuruntime.program.plan.storage import Place, Storage


def storage(size: int, first: int, last: int) -> Storage:
    return Storage(Place.ARENA, size, first_step=first, last_step=last)


def random_storages(seed: int) -> list[Storage]:
    random = np.random.default_rng(seed)
    steps = int(random.integers(1, 40))
    storages = []
    for _ in range(int(random.integers(1, 60))):
        first, last = sorted(random.integers(0, steps, 2).tolist())
        if random.random() < 0.7:
            last = min(last, first + 2)
        storages.append(storage(int(random.choice([64, 100, 4096, random.integers(1, 10_000)])), first, last))
    return storages


def most_alive(storages: list[Storage]) -> int:
    """The largest number of bytes that are alive at one step."""
    steps = range(max(s.last_step for s in storages) + 1)
    return max(sum(s.size for s in storages if s.first_step <= step <= s.last_step) for step in steps)


@pytest.mark.parametrize("seed", range(60))
def test_storages_alive_together_are_apart(seed: int) -> None:
    storages = random_storages(seed)
    size = plan_arena(storages)
    for index, a in enumerate(storages):
        assert a.offset % ALIGNMENT == 0
        assert 0 <= a.offset <= size - a.size
        for b in storages[:index]:
            together = a.first_step <= b.last_step and b.first_step <= a.last_step
            assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    rounded = sum(-(-s.size // ALIGNMENT) * ALIGNMENT for s in storages)
    assert most_alive(storages) <= size <= rounded


def test_a_chain_takes_the_memory_of_two_links() -> None:
    storages = [storage(1000, step, step + 1) for step in range(50)]
    assert plan_arena(storages) == 2 * 1024


def test_memory_is_free_again_after_the_last_step() -> None:
    early, late, whole = storage(640, 0, 3), storage(640, 4, 9), storage(64, 0, 9)
    assert plan_arena([early, late, whole]) == 704
    assert early.offset == late.offset


def test_a_storage_read_by_the_step_that_writes_another_is_still_alive() -> None:
    read, written = storage(64, 0, 1), storage(64, 1, 2)
    assert plan_arena([read, written]) == 128
    assert read.offset != written.offset


def test_a_gap_between_two_storages_is_used() -> None:
    big, middle, small = storage(6400, 0, 1), storage(3200, 1, 9), storage(1280, 2, 9)
    assert plan_arena([big, middle, small]) == 6400 + 3200
    assert small.offset == 0


def test_nothing_takes_nothing() -> None:
    assert plan_arena([]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_slots_hold_what_is_not_alive_together(seed: int) -> None:
    storages = random_storages(seed)
    slots = assign_slots(storages)
    assert sorted(map(id, storages)) == sorted(id(s) for slot in slots for s in slot)
    for slot in slots:
        assert all(before.last_step < after.first_step for before, after in pairwise(slot))
    steps = range(max(s.last_step for s in storages) + 1)
    assert len(slots) == max(sum(s.first_step <= step <= s.last_step for s in storages) for step in steps)


def test_the_slot_nearest_in_size_is_taken() -> None:
    small, large = storage(100, 0, 1), storage(9000, 0, 1)
    next_large, next_small = storage(8000, 2, 3), storage(150, 3, 4)
    slots = assign_slots([small, large, next_large, next_small])
    assert slots == [[small, next_small], [large, next_large]]
