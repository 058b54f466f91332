"""Placing streams: on the processors of the plan, or on others where those are leased."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.hints import CoreGroup, PlannedStream, StreamPlan
from cpuruntime.host.assignment import Holder, ProcessorRequest, assign, listed, reserved, under_quota, who
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.ledger import Lease, Snapshot
from cpuruntime.host.topology import Topology
from cpuruntime.properties import Settings

Planner = Callable[[Topology], StreamPlan]


def place(
    planner: Planner, settings: Settings, topology: Topology, snapshot: Snapshot, name: str | None = None
) -> tuple[StreamPlan, Lease | None]:
    """The plan on the processors that its threads get beside other leases, and the lease of them.

    `planner` gets those of `topology` that are not reserved. Nothing is leased without the model's `name`, or when
    nothing is pinned.

    Raises:
        DeviceUnavailableError: the processors are reserved for other models, or cannot be for this one.
        InvalidArgumentError: a reservation is asked for and no thread is pinned.
    """
    exclusive = settings.value("ENABLE_CPU_RESERVATION")
    left, notes = unreserved(topology, snapshot.holders)
    plan = planner(left)
    if not plan.pin:
        if exclusive:
            raise InvalidArgumentError(
                "ENABLE_CPU_RESERVATION needs pinned threads: ENABLE_CPU_PINNING must not be NO, nor NUM_STREAMS 0."
            )
        if notes:
            notes.append("threads that are not pinned run on reserved processors all the same")
        return replace(plan, reasons=(*plan.reasons, *notes)), None
    requests, cores, quota = _requests(plan, settings, left), _cores(left), _quota(left)
    if name is None:
        assignment = snapshot.assign(requests, exclusive, cores, quota)
        return _moved(plan, assignment.cpus, left, (*assignment.reasons, *notes)), None
    lease = snapshot.lease(requests, name, exclusive, cores, quota)
    if exclusive:
        notes.append(f"{listed(lease.holder.cpus)} reserved: no other model of this user gets a thread there")
    return _moved(plan, lease.cpus, left, (*lease.reasons, *notes)), lease


def unreserved(topology: Topology, holders: Sequence[Holder]) -> tuple[Topology, list[str]]:
    """The processors and the part of the CPU quota that are not reserved, and sentences about the rest.

    Raises:
        DeviceUnavailableError: all are reserved.
    """
    allowed = {cpu.index for cpu in topology.cpus}
    gone = reserved(holders)
    lost = allowed & gone
    notes = [f"{listed(lost)} reserved by {who(lost, holders)} and not used"] if lost else []
    if lost == allowed:
        raise DeviceUnavailableError(
            f"{listed(lost)} all that this process may use, and reserved by {who(lost, holders)}. "
            "Release those models, or let this process use other processors."
        )
    left = topology.restricted(allowed - lost)
    spent = gone & under_quota(_quota(topology), holders)
    if spent and left.quota is not None:
        rest = max(1, left.quota - len(spent))
        if rest < len(left.cpus):
            notes.append(f"reserved processors take {len(spent)} of the control group's CPU quota of {left.quota}")
        left = replace(left, quota=rest)
    return left, notes


def around(plan: StreamPlan, settings: Settings, topology: Topology, holders: Sequence[Holder]) -> StreamPlan:
    """The plan on the processors that `place` would assign beside these leases."""
    if not plan.pin:
        return plan
    assignment = assign(_requests(plan, settings, topology), holders, cores=_cores(topology), quota=_quota(topology))
    return _moved(plan, assignment.cpus, topology, assignment.reasons)


def newcomers(lease: Lease, holders: Iterable[Holder]) -> list[str]:
    """A sentence for each newer lease that has processors in common with this one."""
    own = set(lease.holder.cpus)
    return [
        f"{listed(own.intersection(holder.cpus))} pinned by {holder} too by now"
        for holder in holders
        if holder != lease.holder and holder not in lease.seen and own.intersection(holder.cpus)
    ]


def _cores(topology: Topology) -> dict[int, int]:
    return {cpu.index: cpu.core for cpu in topology.cpus}


def _quota(topology: Topology) -> Quota | None:
    return None if topology.quota is None else Quota(topology.quota, topology.group)


def _kinds(topology: Topology) -> dict[int, tuple[str, int, int]]:
    """Type, NUMA node and socket of each processor, as a plan's parts have them."""
    ranks = topology.ranks()
    return {cpu.index: ("HT" if ranks[cpu.index] else cpu.type, cpu.node, cpu.socket) for cpu in topology.cpus}


def _requests(plan: StreamPlan, settings: Settings, topology: Topology) -> list[ProcessorRequest]:
    """A request for each stream: its processors of the plan, then others that the settings allow, most similar first.

    Siblings are among them even if the plan uses none: two threads are better on two siblings than on one processor.
    """
    kinds = _kinds(topology)
    types = {"PCORE_ONLY": {"P", "HT"}, "ECORE_ONLY": {"E"}}.get(plan.core_type, {"P", "E", "HT"})
    if settings.get("ENABLE_HYPER_THREADING") is False:
        types = types - {"HT"}
    others = [cpu for cpu in topology.order() if kinds[cpu][0] in types]
    requests = []
    for share in plan.shares:
        own = {kinds[cpu] for cpu in share}
        same = {kind[0] for kind in own}
        alike = [cpu for cpu in others if kinds[cpu] in own]
        like = [cpu for cpu in others if kinds[cpu][0] in same]
        requests.append(ProcessorRequest(tuple(dict.fromkeys((*share, *alike, *like, *others))), len(share)))
    return requests


def _moved(
    plan: StreamPlan, shares: Sequence[tuple[int, ...]], topology: Topology, reasons: tuple[str, ...]
) -> StreamPlan:
    kinds = _kinds(topology)
    streams = []
    for stream, share in zip(plan.streams, shares):
        if set(share) != set(stream.cpus):
            found = dict.fromkeys(kinds[cpu] for cpu in share)
            stream = PlannedStream.of(
                [CoreGroup(kind[0], tuple(cpu for cpu in share if kinds[cpu] == kind), *kind[1:]) for kind in found]
            )
        streams.append(stream)
    return replace(plan, streams=tuple(streams), reasons=(*plan.reasons, *reasons))
