"""Candidates for calibration: other streams beside those that the rules make."""

from __future__ import annotations

from cpuruntime.hints.candidates import E, P, candidates
from cpuruntime.hints.plan import StreamPlan, StreamSizes
from cpuruntime.hints.resolver import has_one_stream, is_latency, plan_streams
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand
from cpuruntime.properties import Settings

MOST = 6
"""Plans to measure at most; arbitrary."""


def alternatives(settings: Settings, topology: Topology, demand: Demand) -> list[tuple[StreamSizes, StreamPlan]]:
    """The plan of the rules, with `StreamSizes` of 0 streams, then others that the settings allow, closest ones first.

    For latency fewer threads, or more where the rules leave cores out; for throughput smaller and larger streams, with
    and without siblings of cores.
    """
    first = plan_streams(settings, topology, demand)
    found = {first.shares: (StreamSizes(0, 0, ""), first)}
    if first.streams:
        for streams, threads in _pairs(settings, topology, first):
            sizes = StreamSizes(streams, threads, "")
            plan = plan_streams(settings, topology, demand, sizes)
            found.setdefault(plan.shares, (sizes, plan))
    return list(found.values())[:MOST]


def _pairs(settings: Settings, topology: Topology, first: StreamPlan) -> list[tuple[int, int]]:
    processors = candidates(settings, topology, is_latency(settings))
    most = min(processors.usable, settings.value("INFERENCE_NUM_THREADS") or processors.usable)
    cores = min(most, processors.count(P, E))
    if has_one_stream(settings):
        threads = first.total_threads
        return [(1, t) for t in (cores, -(-threads // 2), -(-threads // 4), 1, most) if 0 < t <= most]
    asked = max(0, settings.get("NUM_STREAMS") or 0)
    limit = min(filter(None, (asked, settings.value("PERFORMANCE_HINT_NUM_REQUESTS"), most)))
    size = first.threads
    if asked:
        return [(limit, t) for t in (size // 2, size // 4, 1) if t > 0]
    sizes = {size, size // 2, 2 * size, 1, 2, most // 2, most} - {0}
    closest = sorted(sizes, key=lambda t: abs(t.bit_length() - size.bit_length()))
    pairs = [(min(total // t, limit), t) for t in closest for total in (most, cores) if t <= total]
    return [(streams, threads) for streams, threads in pairs if streams]
