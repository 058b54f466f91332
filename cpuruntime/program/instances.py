"""The instances of programs that a stream keeps, all in one arena."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, cast

from cpuruntime.host.memory import ALIGNMENT, allocate
from cpuruntime.program.program import Instance, Program

MOST = 256
"""Programs of a dynamic model that are linked in each stream, at most; arbitrary."""

ARENA = "arena"
"""The key of a stream's arena, in which all programs work, among its instances by program."""


def instance_of(instances: dict[Any, Any], program: Program, timed: int = 0) -> Instance:
    """The instance of a stream for a program, which it may share with other programs of the same key."""
    found = instance_for(instances, program, timed)
    if found.program is not program:
        found.load(program)
    return found


def instance_for(
    instances: dict[Any, Any], program: Program, timed: int = 0, key: Hashable = None
) -> Instance:
    """As `instance_of`, but for `load`: it may be another program of the key still. `key` is another one to find it."""
    key = program.key if key is None else key
    found = instances.get(key)
    if found is None or found.arena.size < program.arena_size:
        return _add_instance(instances, program, timed, key)
    return cast("Instance", found)


def _add_instance(instances: dict[Any, Any], program: Program, timed: int, key: Hashable) -> Instance:
    """A new instance of a program in the arena of a stream, which grows; the oldest instance is evicted."""
    arena = instances.get(ARENA)
    if arena is None or arena.size < program.arena_size:
        larger = 0 if arena is None else arena.size * 5 // 4
        instances.clear()  # they are made anew in the larger arena: an interrupt must not leave one half moved
        arena = instances[ARENA] = allocate(max(program.arena_size, larger, ALIGNMENT))
    for old in [old for old, one in instances.items() if old != ARENA and one.program and one.program.is_retired]:
        del instances[old]
    made = instances[key] = Instance(program, timed, arena)
    if len(instances) > MOST:
        del instances[next(old for old in instances if old != ARENA)]
    return made
