"""Placing streams on processors: core types and NUMA nodes are mixed only where nothing else fits.

The rules are OpenVINO's, as its users know them from its plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cpuruntime.hints.candidates import TYPES, NodeCores, P
from cpuruntime.hints.plan import CoreGroup, PlannedStream


class _Bin:
    """Processors of one type and row that no stream has yet."""

    def __init__(self, type: str, node: int, socket: int, cpus: tuple[int, ...]) -> None:
        self.type, self.node, self.socket, self.cpus = type, node, socket, cpus

    def take(self, count: int) -> CoreGroup:
        """The next `count` processors, or those that are left."""
        taken, self.cpus = self.cpus[:count], self.cpus[count:]
        return CoreGroup(self.type, taken, self.node, self.socket)


def fill(rows: Sequence[NodeCores], threads: int, types: Iterable[str] = TYPES) -> PlannedStream:
    """One stream of up to `threads` threads on cores of `types`: socket by socket, there type by type."""
    bins = _bins(rows, types)
    return PlannedStream.of(
        _gather([one for socket in _sockets(rows) for one in bins if one.socket == socket], threads)
    )


def fill_evenly(rows: Sequence[NodeCores], most: int) -> PlannedStream:
    """One stream with up to `most` P cores of each socket."""
    sockets = [[row for row in rows if row.socket == socket] for socket in _sockets(rows)]
    return PlannedStream.of([part for own in sockets for part in _gather(_bins(own, (P,)), most)])


def fill_streams(rows: Sequence[NodeCores], streams: int, threads: Mapping[str, int], most: int) -> list[PlannedStream]:
    """Up to `streams` streams of `threads[type]` threads, with at most `most` threads in all.

    First whole streams on cores of one type and node. If there is no room for any, one on each socket that has enough
    of all types together. What is missing then gets what is left, wherever it is.
    """
    bins = _bins(rows, TYPES)
    placed: list[PlannedStream] = []

    def due(wanted: int) -> int:
        """The threads of the next stream; 0 when there is none to come."""
        used = sum(len(stream.cpus) for stream in placed)
        return min(wanted, most - used) if len(placed) < streams else 0

    for one in bins:
        while 0 < due(threads[one.type]) <= len(one.cpus):
            placed.append(PlannedStream.of([one.take(due(threads[one.type]))]))
    if not placed:
        for socket in _sockets(rows):
            own = [one for one in bins if one.socket == socket]
            if 0 < due(threads[P]) <= sum(len(one.cpus) for one in own):
                placed.append(PlannedStream.of(_gather(own, due(threads[P]))))
    while parts := _gather(bins, due(threads[P])):
        stream = PlannedStream.of(parts)
        placed.append(stream if stream.node >= 0 else PlannedStream(stream.parts, -1, -1))
    return placed


def _sockets(rows: Sequence[NodeCores]) -> list[int]:
    return list(dict.fromkeys(row.socket for row in rows))


def _bins(rows: Sequence[NodeCores], types: Iterable[str]) -> list[_Bin]:
    """Type by type, and for each the rows in their order."""
    return [_Bin(type, row.node, row.socket, row.cpus[type]) for type in types for row in rows]


def _gather(bins: Iterable[_Bin], count: int) -> list[CoreGroup]:
    """Processors from these bins in their order: `count`, or as many as there are."""
    parts: list[CoreGroup] = []
    for one in bins:
        if count > 0 and one.cpus:
            parts.append(one.take(count))
            count -= len(parts[-1].cpus)
    return parts
