"""Liveness and the arena: storages that are not alive at the same time share memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import heappop, heappush

import numpy as np

from cpuruntime.graph import typical
from cpuruntime.host.memory import round_up
from cpuruntime.program.plan.storage import Storage


def plan_arena(storages: Iterable[Storage]) -> int:
    """Gives each storage its offset in the arena and returns the arena's size in bytes.

    A storage is alive from its first to its last step, both included. Greedy by size: the largest storage first, each
    at the lowest offset that is free for the whole time it is alive.
    """
    order = sorted(storages, key=lambda s: (-s.size, s.first_step))
    placed = np.zeros((4, len(order)), np.int64)  # first and last step, begin and end in the arena; by begin
    for count, storage in enumerate(order):
        first, last, begin, end = placed[:, :count]
        alive = np.flatnonzero((first <= storage.last_step) & (last >= storage.first_step))
        free_from = np.maximum.accumulate(np.concatenate([[0], end[alive]]))
        gaps = np.flatnonzero(begin[alive] - free_from[:-1] >= storage.size)
        storage.offset = int(free_from[gaps[0] if len(gaps) else -1])
        place = np.searchsorted(begin, storage.offset, "right")
        placed[:, place + 1 : count + 1] = placed[:, place:count]
        storage_end = storage.offset + round_up(storage.size)
        placed[:, place] = storage.first_step, storage.last_step, storage.offset, storage_end
    return int(placed[3].max(initial=0))


def assign_slots(storages: Iterable[Storage]) -> list[list[Storage]]:
    """Groups of storages no two of which are alive at the same time: a group shares a slot of its largest size.

    Right for all sizes, since it rests on the steps alone. Each storage takes the free slot nearest in size.
    """
    slots: list[list[Storage]] = []
    sizes: list[int] = []
    free: list[tuple[int, int]] = []  # size and number of a slot, by size
    busy: list[tuple[int, int]] = []  # last step and number, a heap
    for storage in sorted(storages, key=lambda s: s.first_step):
        while busy and busy[0][0] < storage.first_step:
            _, slot = heappop(busy)
            insort(free, (sizes[slot], slot))
        size = typical(storage.size)
        if free:
            larger = bisect_left(free, (size, 0))
            nearest = min(range(max(larger - 1, 0), min(larger + 1, len(free))), key=lambda i: abs(free[i][0] - size))
            _, slot = free.pop(nearest)
        else:
            slot = len(slots)
            slots.append([])
            sizes.append(0)
        slots[slot].append(storage)
        sizes[slot] = max(sizes[slot], size)
        heappush(busy, (storage.last_step, slot))
    return slots
