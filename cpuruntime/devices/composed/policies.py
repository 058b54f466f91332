"""Which device runs which of the inferences that wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpuruntime.devices.composed.members import Member

Choice = tuple[Member, int]
Policy = Callable[[Sequence[Member], int, int], "Choice | None"]
"""`policy(members, waiting, now)`: a member with an idle worker, and the position of what it is to run among the
`waiting` inferences in their order; None where all are to wait. `now` is on the clock of perf_counter_ns."""


def by_priority(members: Sequence[Member], waiting: int, now: int) -> Choice | None:
    """The first device in the list that has an idle worker."""
    for member in members:
        if member.takes(now):
            return member, 0
    return None


class RoundRobin:
    """One device after the other, as far as they have idle workers."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, members: Sequence[Member], waiting: int, now: int) -> Choice | None:
        for step in range(len(members)):
            place = (self._next + step) % len(members)
            if members[place].takes(now):
                self._next = place + 1
                return members[place], 0
        return None


def earliest_finish(members: Sequence[Member], waiting: int, now: int) -> Choice | None:
    """The device on which an inference is over first, which need not be an idle one.

    A slow device gets the first inference that the others would not have finished by the time it would; they are
    thought to take what they took of late. So it helps with a long queue, and never runs the last one of a burst.
    """
    ready = [member for member in members if member.takes(now)]
    ready.sort(key=lambda member: member.service or 0)
    for member in ready:
        position = _finished_by(members, member, now)
        if position < waiting:
            return member, position
    return None


def _finished_by(members: Sequence[Member], slow: Member, now: int) -> int:
    """How many inferences the devices faster than `slow` finish while it runs one."""
    if slow.service is None:
        return 0
    count = 0.0
    for member in members:
        if member is slow or not member.service or member.service >= slow.service or member.retry_at or member.retired:
            continue
        count += len(member.idle) * (slow.service // member.service)
        for worker in member.busy:
            left = max(0.0, worker.began + member.service - now)
            count += max(0.0, (slow.service - left) // member.service)
    return int(count)
