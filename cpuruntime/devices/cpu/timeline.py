"""What a timeline shows of an inference on the CPU: the stream with its processors, and the steps."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cpuruntime.graph import Node, typical
from cpuruntime.program.plan.step import FallbackStep
from cpuruntime.program.program import Program
from cpuruntime.streams.task import Stream
from cpuruntime.trace.events import StepLabel

_known: weakref.WeakKeyDictionary[Program, Sequence[StepLabel]] = weakref.WeakKeyDictionary()


def stream_name(stream: Stream) -> str:
    """The stream's number, and its processors if it is pinned."""
    return _name(stream.index, stream.cpus)


@lru_cache(maxsize=1000)
def _name(index: int, processors: tuple[int, ...] | None) -> str:
    cpus = "" if processors is None else f" (CPU {', '.join(map(str, processors))})"
    return f"stream {index}{cpus}"


def labels_of(ran: Program | Node) -> Sequence[StepLabel]:
    """The steps of a program, or the one that is a node."""
    if isinstance(ran, Node):
        return [StepLabel(ran.name, ran.op_type, "numpy")]
    found = _known.get(ran)
    if found is None:
        found = _known[ran] = [
            StepLabel(*label, _flops(ran, step)) for label, step in zip(ran.labels(), ran.planned)
        ]
    return found


def _flops(program: Program, step: Any) -> int:
    """Of a step, or of what is stored of one; 0 where the numbers may be those of another program, of other sizes."""
    if isinstance(step, FallbackStep) or program.key is not program:
        return 0
    return typical(step.flops) * program.repeats
