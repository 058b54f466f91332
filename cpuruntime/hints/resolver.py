"""From hints to streams: which rule applies, and the plan with a reason for each decision."""

from __future__ import annotations

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.hints.candidates import Candidates, candidates
from cpuruntime.hints.division import Division, StreamLimits, exactly, many_streams, one_stream
from cpuruntime.hints.plan import StreamPlan, StreamSizes, counted
from cpuruntime.hints.preference import Preference, for_latency, for_throughput
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand
from cpuruntime.properties import Settings

AUTO, NUMA = -1, -2


def plan_streams(
    settings: Settings, topology: Topology, demand: Demand | None = None, sizes: StreamSizes | None = None
) -> StreamPlan:
    """The streams for a model.

    NUM_STREAMS decides when it is set (AUTO means THROUGHPUT, NUMA means LATENCY, 0 the caller's thread), otherwise
    PERFORMANCE_HINT. INFERENCE_NUM_THREADS and the control group's quota limit the threads of all streams together,
    PERFORMANCE_HINT_NUM_REQUESTS the streams.

    `sizes` are streams that were measured to be best, in place of the rules' choice.

    Raises:
        InvalidArgumentError: the topology has no processor.
    """
    if not topology.cpus:
        raise InvalidArgumentError("There is no processor to plan streams for.")
    found = candidates(settings, topology, is_latency(settings))
    if settings.get("NUM_STREAMS") == 0:
        reason = "NUM_STREAMS is 0: each inference runs in the thread that asks for it, which is not pinned"
        return StreamPlan((), False, found.hyper_threading, found.core_type, (reason,))
    reasons = found.reasons
    if sizes is not None and sizes.streams:
        division = Division(tuple(exactly(found, sizes.streams, sizes.threads)), ())
    else:
        preference = _preference(settings, found, topology, demand or Demand())
        division = divide(settings, found, preference.threads)
        reasons += (preference.reason,) if preference.reason else ()
    pin, why = _pinning(settings, division)
    measured = (sizes.reason,) if sizes is not None else ()
    reasons += (*division.reasons, *measured, why)
    return StreamPlan(division.streams, pin, found.hyper_threading, found.core_type, reasons)


def is_latency(settings: Settings) -> bool:
    """Whether the settings ask for latency rather than throughput."""
    streams = settings.get("NUM_STREAMS")
    if streams in (AUTO, NUMA):
        return streams == NUMA
    return settings.value("PERFORMANCE_HINT") == "LATENCY"


def has_one_stream(settings: Settings) -> bool:
    """Whether there is to be one stream: for latency, or because NUM_STREAMS says so."""
    streams = settings.get("NUM_STREAMS")
    return streams == 1 or (is_latency(settings) and (streams is None or streams < 0))


def divide(settings: Settings, found: Candidates, prefer: int) -> Division:
    """The streams for a model for which streams of `prefer` threads are best."""
    limits = StreamLimits(
        settings.value("INFERENCE_NUM_THREADS"),
        max(0, settings.get("NUM_STREAMS") or 0),
        settings.value("PERFORMANCE_HINT_NUM_REQUESTS"),
    )
    if has_one_stream(settings):
        across = "TENSOR_PARALLEL" in settings.value("MODEL_DISTRIBUTION_POLICY")
        return one_stream(found, prefer, limits, across)
    return many_streams(found, prefer, limits)


def _preference(settings: Settings, found: Candidates, topology: Topology, demand: Demand) -> Preference:
    if has_one_stream(settings):
        return for_latency(found)
    if settings.get("NUM_STREAMS", AUTO) > 0:
        return Preference(0, "")
    return for_throughput(found, topology, demand)


def _pinning(settings: Settings, division: Division) -> tuple[bool, str]:
    asked = settings.get("ENABLE_CPU_PINNING")
    if asked is not None:
        yes, pinned = ("YES", "pinned") if asked else ("NO", "not pinned")
        return asked, f"threads are {pinned}: ENABLE_CPU_PINNING is {yes}"
    mixed = [stream for stream in division.streams if {"P", "E"} <= set(stream.type.split("+"))]
    if len(division.streams) == 1 and mixed and not settings.value("ENABLE_CPU_RESERVATION"):
        return False, "threads are not pinned: the system moves those of a stream between P and E cores better"
    return True, f"{counted(sum(map(len, (s.cpus for s in division.streams))), 'thread')} pinned, each to a processor"
