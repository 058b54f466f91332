"""How many threads of one stream suit a model: from its demand and the machine's caches. An estimate, not measured.

For latency the question is only which cores help. For throughput a stream of one thread needs no barriers; but every
stream has values of its own, and where those of all streams together outgrow the shared cache, fewer and larger streams
keep them there. The estimate charges both.
"""

from __future__ import annotations

from cpuruntime.hints.candidates import HT, Candidates, E, P
from cpuruntime.hints.plan import counted
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand, NodeDemand
from cpuruntime.records import record

FLOPS_PER_NS, BYTES_PER_NS, BARRIER_NS = 100, 5, 200
"""Compute of a typical server core (FLOP/ns), its memory bandwidth under load (B/ns), and the cost of a barrier (ns),
for each doubling of threads. Only their ratios count, and those are similar on all machines that were looked at."""

SLOWER = 2
"""How much slower an E core computes float32 than a P core."""

TOLERANCE = 1.05
"""Costs within this factor are equal: the estimate is no more accurate."""


@record
class Preference:
    """The preferred threads of a stream, 0 for a number that divides the machine's cores evenly, and the reason."""

    threads: int
    reason: str


@record
class _CacheSizes:
    """Bytes of a core's own cache and of the last level, and the number of cores that share the last level."""

    own: int
    shared: int
    sharers: int


def for_latency(found: Candidates) -> Preference:
    """The cores that make one inference faster: E cores are used from SLOWER times as many as P cores on.

    The work of a step is split evenly, so it takes as long as its slowest core. Only the E cores that the quota leaves
    beside the P cores count.
    """
    fast, slow = found.count(P), found.count(E)
    if not found.is_hybrid:
        return Preference(fast or slow, "latency: every core helps")
    slow = min(slow, found.usable - fast)
    if slow <= 0:
        return Preference(fast, "latency: the quota leaves no E core beside the P cores")
    few, many = counted(slow, "E core"), counted(fast, "P core")
    if fast * SLOWER <= slow:
        return Preference(fast + slow, f"latency: {few} help {many}")
    return Preference(fast, f"latency: {few} would hold up {many} more than {'it adds' if slow == 1 else 'they add'}")


def for_throughput(found: Candidates, topology: Topology, demand: Demand) -> Preference:
    """The threads of a stream with the highest estimated throughput of all cores together."""
    cores = found.count(P) or found.count(E)
    if not any(node.flops for node in demand.nodes):
        return Preference(0, "throughput: the model's shapes are open, so its demand is not known")
    caches = _caches(topology)
    choices = [threads for threads in (1, 2, 4) if threads == 1 or 2 * threads <= cores]
    costs = {threads: _cost(demand, caches, threads) for threads in choices}
    best = next(threads for threads in choices if costs[threads] <= TOLERANCE * min(costs.values()))
    reason = f"throughput: {_described(demand, caches)}; "
    if best == 4:
        return Preference(0, reason + "larger streams keep more of it in the cache")
    if best == 2:
        return Preference(2, reason + "two threads for each stream keep more of it in the cache")
    reason += "one thread for each stream wastes least"
    if found.count(HT) == found.count(P) and not found.count(E):
        return Preference(2, reason + ", on machines with two threads a core two")
    return Preference(1, reason)


def _caches(topology: Topology) -> _CacheSizes:
    cores = {cpu.index: cpu.core for cpu in topology.cpus}
    levels = {cache.level for cache in topology.caches}
    if not levels:
        return _CacheSizes(2**20, 3 * 2**19 * len(set(cores.values())), len(set(cores.values())))
    last = max((cache for cache in topology.caches if cache.level == max(levels)), key=lambda cache: len(cache.cpus))
    sharers = {cores[cpu] for cpu in last.cpus}
    own = [c for c in topology.caches if c.level == 2 and max(levels) > 2]
    return _CacheSizes(
        min((c.size // len({cores[cpu] for cpu in c.cpus}) for c in own), default=0), last.size, len(sharers)
    )


def _cost(demand: Demand, caches: _CacheSizes, threads: int) -> float:
    """Core-nanoseconds of one inference by a stream of `threads` threads while all cores are busy."""
    streams = max(1, caches.sharers // threads)
    barriers = BARRIER_NS * threads * (threads.bit_length() - 1) * len(demand.nodes)
    work = sum(
        node.flops / FLOPS_PER_NS + _spilled(node, demand.weights, caches, threads, streams) / BYTES_PER_NS
        for node in demand.nodes
    )
    return work + barriers


def _spilled(node: NodeDemand, weights: int, caches: _CacheSizes, threads: int, streams: int) -> int:
    """Bytes that the node reads from memory: its values when those of all streams outgrow the shared cache, and its
    weights when the whole model's weights and these values do."""
    values = streams * node.activations
    spilled = node.weights if weights + values > caches.shared else 0
    if node.activations > threads * caches.own and node.weights + values > caches.shared:
        spilled += node.activations
    return spilled


def _described(demand: Demand, caches: _CacheSizes) -> str:
    largest = demand.largest
    assert largest is not None
    text = f"{demand.flops / 1e9:.2f} GFLOP and {demand.weights / 2**20:.1f} MiB of weights, "
    text += f"{largest.activations / 2**20:.1f} MiB of values in the largest step, "
    text += f"a cache of {caches.shared / 2**20:.0f} MiB for {counted(caches.sharers, 'core')}"
    return text + (f" ({counted(demand.unknown, 'node')} of open shape not counted)" if demand.unknown else "")
