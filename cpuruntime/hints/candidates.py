"""Which processors a model's streams may use, by NUMA node and core type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cpuruntime.hints.plan import counted
from cpuruntime.host.topology import Topology
from cpuruntime.properties import Settings
from cpuruntime.records import record

P, E, HT = TYPES = ("P", "E", "HT")
"""Core types in the order of use: the first processor of each fast core, of each slow core, then the siblings."""


@record
class NodeCores:
    """The processors of one NUMA node of one socket, by type."""

    node: int
    socket: int
    cpus: dict[str, tuple[int, ...]]

    def count(self, *types: str) -> int:
        """How many there are of these types, or of all."""
        return sum(len(self.cpus[type]) for type in types or TYPES)

    def only(self, *types: str) -> NodeCores:
        """Those of these types."""
        return replace(self, cpus={type: self.cpus[type] if type in types else () for type in TYPES})


@record
class Candidates:
    """The processors a model may use, `rows` with the caller's node first, and how many may be busy at a time."""

    rows: tuple[NodeCores, ...]
    usable: int
    hyper_threading: bool
    core_type: str
    reasons: tuple[str, ...]

    def count(self, *types: str) -> int:
        """How many processors there are of these types, or of all."""
        return sum(row.count(*types) for row in self.rows)

    @property
    def is_hybrid(self) -> bool:
        """Whether there are fast and slow cores."""
        return self.count(P) > 0 and self.count(E) > 0

    @property
    def socket_rows(self) -> list[NodeCores]:
        """The rows of the caller's socket."""
        return [row for row in self.rows if row.socket == self.rows[0].socket]


def candidates(settings: Settings, topology: Topology, is_latency: bool) -> Candidates:
    """The processors that the settings leave, and why."""
    rows = _rows(topology)
    total = len(topology.cpus)
    reasons = [f"{total} {'processor is' if total == 1 else 'processors are'} allowed: {_described(rows)}"]
    core_type = settings.value("SCHEDULING_CORE_TYPE").value
    rows, core_type = _of_type(rows, core_type, reasons)
    siblings = sum(row.count(HT) for row in rows)
    hyper_threading = siblings > 0
    if siblings:
        asked = settings.get("ENABLE_HYPER_THREADING")
        if asked is not None:
            hyper_threading, why = asked, f"ENABLE_HYPER_THREADING is {'YES' if asked else 'NO'}"
        elif is_latency:
            hyper_threading, why = False, "two threads on a core slow each other's inference down"
        elif len(rows) > 1:
            hyper_threading, why = False, "there are cores on several NUMA nodes"
        else:
            why = "throughput may gain from them"
        reasons.append(f"{siblings} siblings of cores are {'used' if hyper_threading else 'left out'}: {why}")
    if not hyper_threading:
        rows = [row.only(P, E) for row in rows]
    rows = [row for row in rows if row.count()]
    left = sum(row.count() for row in rows)
    usable = min(left, topology.quota or left)
    if usable < left:
        reasons.append(f"{usable} of them work at a time, as many as the control group's CPU quota allows")
    return Candidates(tuple(rows), usable, hyper_threading, core_type, tuple(reasons))


def _rows(topology: Topology) -> list[NodeCores]:
    ranks = topology.ranks()
    found: dict[tuple[int, int], dict[str, list[int]]] = {}
    for cpu in topology.cpus:
        row = found.setdefault((cpu.node, cpu.socket), {type: [] for type in TYPES})
        row[HT if ranks[cpu.index] else cpu.type].append(cpu.index)
    places = sorted(found)
    first = next((i for i, (node, _) in enumerate(places) if node == topology.node), 0)
    return [
        NodeCores(node, socket, {type: tuple(cpus) for type, cpus in found[node, socket].items()})
        for node, socket in places[first:] + places[:first]
    ]


def _of_type(rows: list[NodeCores], core_type: str, reasons: list[str]) -> tuple[list[NodeCores], str]:
    """The rows without the cores that SCHEDULING_CORE_TYPE leaves out; what it became."""
    types = {"PCORE_ONLY": (P, HT), "ECORE_ONLY": (E,)}.get(core_type)
    if types is None:
        return rows, core_type
    if not sum(row.count(types[0]) for row in rows):
        reasons.append(f"SCHEDULING_CORE_TYPE is {core_type}, and there is no such core: any core is used")
        return rows, "ANY_CORE"
    reasons.append(f"only {types[0]} cores are used: SCHEDULING_CORE_TYPE is {core_type}")
    return [row.only(*types) for row in rows], core_type


def _described(rows: Sequence[NodeCores]) -> str:
    hybrid = any(row.count(E) for row in rows)
    words = {P: "P core" if hybrid else "core", E: "E core", HT: "sibling"}
    counts = [(sum(row.count(type) for row in rows), type) for type in TYPES]
    text = " + ".join(counted(number, words[type]) for number, type in counts if number)
    nodes, sockets = len({row.node for row in rows}), len({row.socket for row in rows})
    text += f" on {nodes} NUMA nodes" if nodes > 1 else ""
    return text + (f" of {sockets} sockets" if sockets > 1 else "")
