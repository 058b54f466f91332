"""Liveness and the arena: storages that are not alive at the same time share memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from cpuruntime.graph import typical
from cpuruntime.host.memory import round_up
from cpuruntime.program.plan.storage import Storage


def plan_arena(storages: Iterable[Storage]) -> int:
    """Gives each storage its offset in the arena and returns the arena's size in bytes.

    A storage is alive from its first to its last step, both included. Greedy by size: the largest storage first, each
    at the lowest offset that is free for the whole time it is alive.
    """
    placed: list[Storage] = []
    total = 0
    for storage in sorted(storages, key=lambda s: (-s.size, s.first_step)):
        offset = 0
        for other in placed:
            apart = storage.last_step < other.first_step or other.last_step < storage.first_step
            if not apart and offset + storage.size > other.offset and offset < other.offset + other.size:
                offset = other.offset + round_up(other.size)
        storage.offset = offset
        insort(placed, storage, key=lambda s: s.offset)
        total = max(total, offset + round_up(storage.size))
    return total


def assign_slots(storages: Iterable[Storage]) -> list[list[Storage]]:
    """Groups of storages no two of which are alive at the same time: a group shares a slot of its largest size.

    Right for all sizes, since it rests on the steps alone. Each storage takes the free slot nearest in size.
    """
    slots: list[list[Storage]] = []
    for storage in sorted(storages, key=lambda s: s.first_step):
        free = [slot for slot in slots if slot[-1].last_step < storage.first_step]
        size = typical(storage.size)
        fitting = min(free, key=lambda slot: abs(max(typical(s.size) for s in slot) - size), default=None)
        if fitting is None:
            slots.append([storage])
        else:
            fitting.append(storage)
    return slots
