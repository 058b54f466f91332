"""Machines to plan streams for: topologies made from counts of processors, and plans as rows of counts.

The rows are those of OpenVINO's tests. A machine has a row [all, P, E, siblings, node, socket] for each NUMA node, the
caller's first, and before them their sum where there is more than one. A plan has [streams, type, threads, node,
socket]; a stream whose threads differ has the type ALL and is followed by its parts, with 0 streams; -1 is any.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from cpuruntime.hints import PlannedStream
from cpuruntime.host.processors import Cache, Cpu
from cpuruntime.host.topology import Topology


def machine(rows: Sequence[Sequence[int]], quota: int | None = None, caches: tuple[Cache, ...] = ()) -> Topology:
    """A machine with these processors, numbered as Linux does: cores in the order of their nodes, then siblings."""
    nodes = rows[1:] if len(rows) > 1 else rows
    cpus: list[Cpu] = []
    siblings: list[Cpu] = []
    first_sibling = sum(fast + slow for _, fast, slow, *_ in nodes)
    for _, fast, slow, twins, node, socket in nodes:
        for number in range(fast + slow):
            index = len(cpus)
            cpus.append(Cpu(index, index, node, socket, "P" if number < fast else "E"))
            if number < twins:
                siblings.append(Cpu(first_sibling + len(siblings), index, node, socket, "P"))
    return Topology((*cpus, *siblings), quota, caches, nodes[0][4])


def rows_of(streams: Sequence[PlannedStream], is_parallel: bool = False) -> list[list[int | str]]:
    """The plan as OpenVINO writes it; `is_parallel`: its parts are called sub-streams."""
    rows: list[list[int | str]] = []
    for (node, socket, parts), run in groupby(streams, key=lambda s: (s.node, s.socket, _parts(s))):
        if len(parts) == 1:
            rows.append([len(list(run)), *parts[0]])
            continue
        for _ in run:
            total = sum(int(part[1]) for part in parts)
            types = {part[0] for part in parts}
            rows.append([1, "ALL" if not is_parallel else types.pop(), total, node, socket])
            rows += [[-1 if is_parallel else 0, *part] for part in parts]
    return rows


def _parts(stream: PlannedStream) -> tuple[tuple[str | int, ...], ...]:
    return tuple((part.type, len(part.cpus), part.node, part.socket) for part in stream.parts)
