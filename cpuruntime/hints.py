"""From hints to streams: how many, of how many threads, on which processors, and why. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from cpuruntime.properties import Settings
from cpuruntime.streams.topology import Topology


@dataclass(frozen=True)
class StreamPlan:
    """`streams` streams of `threads` threads each, on `cpus` in this order; `reasons` has a sentence a decision."""

    streams: int
    threads: int
    cpus: tuple[int, ...]
    pin: bool
    reasons: tuple[str, ...]


def plan_streams(settings: Settings, topology: Topology) -> StreamPlan:
    """The streams for a model.

    NUM_STREAMS decides when it is set (AUTO means THROUGHPUT, NUMA means LATENCY, 0 the caller's thread), otherwise
    PERFORMANCE_HINT: LATENCY is one stream of all cores, THROUGHPUT as many streams of one thread as there are cores.
    INFERENCE_NUM_THREADS limits the threads of all streams together, PERFORMANCE_HINT_NUM_REQUESTS the streams.
    """
    wanted = settings.get("NUM_STREAMS", None)
    limit = settings.value("INFERENCE_NUM_THREADS")
    cores = topology.usable_cores if not limit else topology.usable
    threads = min(cores, limit) if limit else cores
    reasons = [_cores_reason(topology, cores, limit, threads)]
    if wanted == 0:
        reason = "NUM_STREAMS is 0: each inference runs in the thread that asks for it, which is not pinned"
        return StreamPlan(0, 1, (), False, (*reasons, reason))
    latency = wanted == -2 or (wanted is None and settings.value("PERFORMANCE_HINT") == "LATENCY")
    requests = settings.value("PERFORMANCE_HINT_NUM_REQUESTS")
    if wanted is not None and wanted > 0:
        streams = min(wanted, threads)
        reasons.append(f"{_count(streams, 'stream')}: NUM_STREAMS is {wanted}, and a stream needs a thread")
    elif latency:
        streams = 1
        reasons.append("1 stream: for latency all threads work on one inference")
    else:
        streams = threads
        reasons.append(f"{_count(streams, 'stream')}: for throughput each thread works on an inference of its own")
    if requests and requests < streams and not latency:
        streams = requests
        reasons.append(f"{_count(streams, 'stream')}: PERFORMANCE_HINT_NUM_REQUESTS is {requests}")
    each = max(1, threads // streams)
    pin = bool(settings.value("ENABLE_CPU_PINNING"))
    reasons.append(f"{_count(each, 'thread')} per stream: {_count(threads, 'thread')} for {_count(streams, 'stream')}")
    cpus = tuple(topology.pick(streams * each))
    reasons.append(f"threads are pinned to processors {list(cpus)}" if pin else "threads are not pinned, as asked")
    return StreamPlan(streams, each, cpus, pin, tuple(reasons))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _cores_reason(topology: Topology, cores: int, limit: int, threads: int) -> str:
    reason = f"{_count(threads, 'thread')}: {len(topology.cpus)} processors are allowed, {cores} of them usable"
    if topology.quota is not None:
        reason += f", the control group's quota is {topology.quota}"
    return reason + (f", INFERENCE_NUM_THREADS is {limit}" if limit else ", one thread for each core")
