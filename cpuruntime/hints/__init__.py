"""From hints to streams: how many, of how many threads, on which processors, and why. Pure functions.

`plan_streams` goes through `candidates` (processors that may be used), `preference` (threads that suit the model),
`division` (how many streams of how many threads) and `placement` (whose cores each stream gets) to a `StreamPlan`.
"""

from cpuruntime.hints.alternatives import alternatives
from cpuruntime.hints.candidates import candidates
from cpuruntime.hints.plan import CoreGroup, PlannedStream, StreamPlan, StreamSizes, counted
from cpuruntime.hints.resolver import AUTO, has_one_stream, plan_streams

__all__ = [
    "AUTO",
    "CoreGroup",
    "PlannedStream",
    "StreamPlan",
    "StreamSizes",
    "alternatives",
    "candidates",
    "counted",
    "has_one_stream",
    "plan_streams",
]
