"""Assigning processors to streams beside the leases of other models. Pure functions; `ledger` has files and locks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from math import inf

from cpuruntime.errors import DeviceUnavailableError, printable
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.processors import cpu_list
from cpuruntime.records import record


@record
class ProcessorRequest:
    """One stream's request: `count` processors out of `candidates`, best first."""

    candidates: tuple[int, ...]
    count: int


@record
class Holder:
    """A lease as other processes see it: threads of the model `name` in process `pid` are pinned to `cpus`.

    Attributes:
        exclusive: whether no other model may pin threads there.
        key: identifies the lease.
        group: the control group whose CPU quota limits the process; 0 where it is not known.
        is_own: whether it is this process's.
    """

    pid: int
    name: str
    cpus: tuple[int, ...]
    exclusive: bool = False
    key: str = ""
    group: int = 0
    is_own: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        process = "this process" if self.pid == os.getpid() else f"process {self.pid}"
        return f"{process} (model '{printable(self.name)}')" if self.name else process


@record
class Assignment:
    """The processors of each stream, and a sentence for each difference from the requests' first candidates."""

    cpus: tuple[tuple[int, ...], ...]
    reasons: tuple[str, ...] = ()


def assign(
    requests: Sequence[ProcessorRequest],
    holders: Sequence[Holder] = (),
    exclusive: bool = False,
    cores: Mapping[int, int] | None = None,
    quota: Quota | None = None,
) -> Assignment:
    """Assign processors to streams, all different: those with the fewest leases, then those on the least leased core.

    Ties go by the order of the candidates. Where the quota allows no more processors to be busy than are leased under
    it, those come first.

    There is a request for each stream; `holders` are the present leases. If `exclusive`, only processors without any
    lease are assigned. `cores` has the physical core of each processor, by default one of its own. `quota` is what
    reserved processors leave of the process's CPU quota.

    Raises:
        DeviceUnavailableError: too few processors are left, because of exclusive leases or for an exclusive one.
    """
    cores = cores or {}
    users = Counter(cpu for holder in holders for cpu in holder.cpus)
    crowd = Counter(cores.get(cpu, cpu) for cpu in users.elements())
    barred = set(users) if exclusive else reserved(holders)
    leased = under_quota(quota, holders) - reserved(holders)
    spare = inf if quota is None else quota.cpus - len(leased)
    taken: set[int] = set()
    planned: set[int] = set()
    confined: set[int] = set()
    shares = []
    for request in requests:
        planned.update([cpu for cpu in request.candidates if cpu not in planned][: request.count])
        share: list[int] = []
        free = [cpu for cpu in dict.fromkeys(request.candidates) if cpu not in taken and cpu not in barred]
        if len(free) < request.count:
            raise _none_left(requests, holders, barred, exclusive)
        while len(share) < request.count:
            best = min(free, key=lambda cpu: (spare < 1 and cpu not in leased, users[cpu], crowd[cores.get(cpu, cpu)]))
            if users[best] > min(users[cpu] for cpu in free):
                confined.add(best)
            spare -= best not in leased
            free.remove(best)
            share.append(best)
            crowd[cores.get(best, best)] += 1
        share.sort(key=request.candidates.index)
        taken.update(share)
        shares.append(tuple(share))
    reasons = [*_moves(planned, taken - confined, holders, cores), *_shared(taken, confined, users, holders)]
    if spare < 0:
        reasons.append(f"models have {len(leased | taken)} processors, more than the control group's CPU quota allows")
    return Assignment(tuple(shares), tuple(reasons))


def _moves(planned: set[int], taken: set[int], holders: Sequence[Holder], cores: Mapping[int, int]) -> Iterator[str]:
    left, instead = planned - taken, taken - planned
    if not instead:
        return
    users = {cpu for holder in holders for cpu in holder.cpus}
    busy = {cores.get(cpu, cpu) for cpu in users}
    avoided = {cpu for cpu in left if cores.get(cpu, cpu) in busy}
    if avoided:
        which = {cores.get(cpu, cpu) for cpu in avoided}
        near = {cpu for cpu in users if cores.get(cpu, cpu) in which}
        yield f"{listed(avoided)} pinned by {who(near, holders)}; taking {cpu_list(instead)} instead"
    else:
        yield f"{listed(instead)} taken instead of {cpu_list(left)}: their cores have fewer threads of this model"


def _shared(taken: set[int], confined: set[int], users: Mapping[int, int], holders: Sequence[Holder]) -> Iterator[str]:
    shared = {cpu for cpu in taken - confined if users[cpu]}
    if shared:
        yield f"{listed(shared)} shared with {who(shared, holders)}: no other allowed processor has fewer threads"
    if confined:
        yield (
            f"{listed(confined)} shared with {who(confined, holders)}: "
            "models use no more processors than the control group's CPU quota allows"
        )


def under_quota(quota: Quota | None, holders: Iterable[Holder]) -> set[int]:
    """The processors leased under this quota: by this process, and by others of the control group."""
    if quota is None:
        return set()
    found = (holder for holder in holders if holder.is_own or (quota.group and holder.group == quota.group))
    return {cpu for holder in found for cpu in holder.cpus}


def _none_left(
    requests: Sequence[ProcessorRequest], holders: Sequence[Holder], barred: set[int], exclusive: bool
) -> DeviceUnavailableError:
    wanted = sum(request.count for request in requests)
    allowed = {cpu for request in requests for cpu in request.candidates}
    lost = allowed & barred
    kind, remedy = "reserved", "ask for fewer threads"
    if exclusive:
        kind, remedy = "pinned", "compile without ENABLE_CPU_RESERVATION"
    return DeviceUnavailableError(
        f"{wanted} of the processors {cpu_list(allowed)} are wanted and {len(allowed - lost)} can be had: "
        f"{listed(lost)} {kind} by {who(lost, holders)}. Release those models, or {remedy}."
    )


def reserved(holders: Iterable[Holder]) -> set[int]:
    """The processors of exclusive leases."""
    return {cpu for holder in holders if holder.exclusive for cpu in holder.cpus}


def who(cpus: Iterable[int], holders: Iterable[Holder]) -> str:
    """The processes that have pinned threads to any of these processors, in words."""
    wanted = set(cpus)
    found = list(dict.fromkeys(str(holder) for holder in holders if wanted.intersection(holder.cpus)))
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def listed(cpus: Iterable[int]) -> str:
    """ "CPU 3 is" or "CPUs 0-3,6 are"."""
    cpus = set(cpus)
    return f"CPU {cpu_list(cpus)} is" if len(cpus) == 1 else f"CPUs {cpu_list(cpus)} are"
