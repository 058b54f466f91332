"""The rows of `explain`, one for each step of a program, and how steps are measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.explanation import Row
from cpuruntime.hints import counted
from cpuruntime.host.timing import alternate
from cpuruntime.program.assembly import is_small
from cpuruntime.program.lowerings import data_dependent
from cpuruntime.program.plan.candidate import Comparison
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.report.roofs import Roofs
from cpuruntime.program.report.work import constant_bytes, least_seconds, tensor_bytes
from cpuruntime.program.stages.loops import RUNS
from cpuruntime.program.stages.stage import Stage
from cpuruntime.streams.base import Executor
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Stream

FEWEST, MOST, ENOUGH_SECONDS = 3, 20, 0.5
"""How many inferences are measured: as many as take half a second, within limits."""
SHOWN = 4
"""Candidates named for a choice."""


def explain_steps(program: Program, threads: int, seconds: Sequence[float] | None, packed: int) -> list[Row]:
    """A row for each step; `seconds` is None when only the times of tuning are known; `packed` weights are in bytes."""
    program.show()
    if seconds is None:
        return [_row(step, threads, _tuned(step)) for step in program.planned]
    roofs, times = Roofs(threads), program.repeats
    return [_row(step, threads, taken, roofs, packed, times) for step, taken in zip(program.planned, seconds)]


def staged(stages: Sequence[Stage]) -> str:
    """A sentence about a model without one program for everything."""
    if not stages:
        return "the model has dynamic shapes: its steps are planned at the first inference"
    return (
        f"shapes depend on data: the inference has {counted(len(stages), 'stage')}, each planned when the shapes it is "
        "for are known"
    )


def explain_stage(stage: Stage, threads: int, packed: int) -> list[Row]:
    """Rows for the program of a stage and for what runs after it."""
    rows = [] if stage.program is None else explain_steps(stage.program, threads, None, packed)
    for node, _ in stage.parts.steps:
        loop = node.op_type in RUNS
        kernel = "stages of its body" if loop else data_dependent.kernel_of(node)
        rows.append(Row(tuple(node.origins), node.op_type, kernel or "numpy", "plain", fallback=not kernel))
    return rows


def _row(
    step: Step | FallbackStep,
    threads: int,
    seconds: float | None,
    roofs: Roofs | None = None,
    packed: int = 0,
    times: int = 1,
) -> Row:
    node, taken = step.node, None if seconds is None else seconds * 1e6
    origins = tuple(node.origins)
    if isinstance(step, FallbackStep):
        return Row(origins, node.op_type, "numpy", "plain", step.reason, fallback=True, microseconds=taken)
    notes = ", ".join(filter(None, (step.notes, "one thread" if threads > 1 and is_small(step) else "")))
    gflops = gigabytes = roof = None
    if seconds:
        seconds /= times
        gflops = step.flops / seconds * 1e-9 or None
        moved = constant_bytes(step) + tensor_bytes(step) if tensor_bytes(step) else 0
        gigabytes = moved / seconds * 1e-9 or None
        roof = None if roofs is None or not moved else least_seconds(step, roofs, packed) / seconds
    return Row(
        origins, node.op_type, step.kernel.name, step.layout, notes, compared=_compared(step), microseconds=taken,
        gflops=gflops, gigabytes=gigabytes, roof=roof,
    )  # fmt: skip


def _tuned(step: Step | FallbackStep) -> float | None:
    found = [c.seconds[0] for c in getattr(step, "comparisons", ()) if c.names]
    return found[-1] if found else None


def _compared(step: Step) -> str:
    return "; ".join(filter(None, map(_spelled, step.comparisons)))


def _spelled(comparison: Comparison) -> str:
    """What was chosen between, with microseconds or by how much more each was expected to take."""
    if len(comparison.names) < 2:
        return ""
    parts = []
    for name, seconds, cost in list(zip(comparison.names, comparison.seconds, comparison.costs))[:SHOWN]:
        estimate = f"about {cost / comparison.costs[0]:.2f}"
        parts.append(f"{name}: {estimate if seconds is None else f'{seconds * 1e6:.1f} us'}")
    return " | ".join(parts)


class MeasuringRequest(CpuRequest):
    """A request whose inferences of one program are timed step by step, on memory of their own."""

    def __init__(self, programs: Programs, executor: Executor, program: Program) -> None:
        super().__init__(programs, executor)
        self._timed = Instance(program, timed=True)

    def begin(self, stream: Stream) -> Job | None:
        """As any request, on an instance that nothing else uses."""
        key = self._timed.key
        own = stream.state.pop(key, None)
        stream.state[key] = self._timed
        try:
            return super().begin(stream)
        finally:
            del stream.state[key]
            if own is not None:
                stream.state[key] = own


def measure_steps(request: MeasuringRequest, program: Program) -> list[float]:
    """Seconds of each step of `program` in inferences on random inputs by one stream: medians."""
    generator = np.random.default_rng(0)
    for index, shape in enumerate(program.input_shapes):
        array = request.input_array(index, shape)
        if array.dtype.kind == "f":
            array[...] = generator.standard_normal(shape)
    times: list[np.ndarray] = []

    def run() -> float:
        request.run()
        times.append(request.step_times)
        return float(times[-1].sum())

    run()
    times.clear()
    alternate([run], ENOUGH_SECONDS, MOST, FEWEST)
    return [statistics.median(column) * 1e-9 for column in np.array(times).T.tolist()]
