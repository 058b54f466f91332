"""The rows of `explain`, one for each step of a program, and how steps are measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.cpu.shares import Loss, loss_of, time_shares
from cpuruntime.devices.explanation import Row
from cpuruntime.devices.interface import Terms
from cpuruntime.errors import DeadlineExceededError, InvalidArgumentError, printable
from cpuruntime.graph import Kind, Node
from cpuruntime.hints import counted
from cpuruntime.host.timing import alternate
from cpuruntime.program.lowerings import data_dependent
from cpuruntime.program.plan.candidate import Comparison
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.report.facts import StepFacts, facts_of
from cpuruntime.program.report.roofs import Roofs
from cpuruntime.program.stages.loops import RUNS
from cpuruntime.program.stages.run import Run
from cpuruntime.program.stages.stage import Stage
from cpuruntime.streams.base import Executor
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Stream

FEWEST, MOST, ENOUGH_SECONDS = 3, 20, 0.5
"""How many inferences are measured: as many as take half a second, within limits."""
LONGEST_SECONDS = 10
"""An inference on random inputs is ended after that: its loops may be endless."""
StageTimes = dict[Program | Node, tuple[Sequence[float], int]]
"""Seconds of each step of a program, or of a node that ran by itself, in one inference, and how often it ran there."""
SHOWN = 4
"""Candidates named for a choice."""


def explain_steps(
    program: Program, threads: int, seconds: Sequence[float] | None, packed: int, runs: int = 1,
    losses: Sequence[Loss | None] = (),
) -> list[Row]:  # fmt: skip
    """A row for each step; `seconds` is None when only the times of tuning are known; `packed` weights are in bytes.

    The seconds are those of so many `runs`; `losses` are of each step where they were measured.
    """
    program.show()
    steps = list(map(facts_of, program.planned))
    if seconds is None:
        return [_row(step, threads, _tuned(step)) for step in steps]
    roofs, times = Roofs(threads), program.repeats * runs
    rows = zip_longest(steps, seconds, losses)
    return [_row(step, threads, taken, roofs, packed, times, loss) for step, taken, loss in rows]


def staged(stages: Sequence[Stage]) -> str:
    """A sentence about a model without one program for everything."""
    if not stages:
        return "the model has dynamic shapes: its steps are planned at the first inference"
    return (
        f"shapes depend on data: the inference has {counted(len(stages), 'stage')}, each planned when the shapes it is "
        "for are known"
    )


def explain_stage(stage: Stage, threads: int, packed: int, times: StageTimes | None = None) -> list[Row]:
    """Rows for the program of a stage and for what runs after it."""
    times, rows = times or {}, []
    if stage.program is not None:
        seconds, runs = times.get(stage.program, (None, 1))
        rows = explain_steps(stage.program, threads, seconds, packed, runs)
    for node, _ in stage.parts.steps:
        loop = node.op_type in RUNS
        kernel = "stages of its body" if loop else data_dependent.kernel_of(node)
        seconds, _ = times.get(node, (None, 1))
        taken = None if seconds is None else seconds[0] * 1e6
        rows.append(
            Row(tuple(node.origins), node.op_type, kernel or "numpy", "plain", fallback=not kernel, microseconds=taken)
        )
    return rows


def _row(
    step: StepFacts,
    threads: int,
    seconds: float | None,
    roofs: Roofs | None = None,
    packed: int = 0,
    times: int = 1,
    loss: Loss | None = None,
) -> Row:
    taken = None if seconds is None else seconds * 1e6
    if step.reason:
        return Row(step.origins, step.op_type, "numpy", step.layout, step.reason, fallback=True, microseconds=taken)
    notes = ", ".join(filter(None, (step.notes, "one thread" if threads > 1 and step.is_small else "")))
    gflops = gigabytes = roof = None
    if seconds:
        seconds /= times
        gflops = step.flops / seconds * 1e-9 or None
        moved = step.constants + step.tensors if step.tensors else 0
        gigabytes = moved / seconds * 1e-9 or None
        if roofs is not None and moved:
            roof = roofs.least_seconds(step.least_flops, step.constants, step.tensors, packed) / seconds
    return Row(
        step.origins, step.op_type, step.kernel, step.layout, notes, compared=_compared(step), microseconds=taken,
        gflops=gflops, gigabytes=gigabytes, roof=roof, precision=step.precision, scaling=str(loss or ""),
    )  # fmt: skip


def _tuned(step: StepFacts) -> float | None:
    found = [c.seconds[0] for c in step.comparisons if c.names]
    return found[-1] if found else None


def _compared(step: StepFacts) -> str:
    return "; ".join(filter(None, map(_spelled, step.comparisons)))


def _spelled(comparison: Comparison) -> str:
    """What was chosen between: the microseconds of each, where they were measured, and its estimate as a multiple of
    the chosen one's."""
    if len(comparison.names) < 2:
        return ""
    parts = []
    for name, seconds, cost in list(zip(comparison.names, comparison.seconds, comparison.costs))[:SHOWN]:
        estimate = f"about {cost / comparison.costs[0]:.2f}"
        parts.append(f"{name}: {estimate if seconds is None else f'{seconds * 1e6:.1f} us, {estimate}'}")
    return " | ".join(parts)


class MeasuringRequest(CpuRequest):
    """A request whose inferences of one program are timed step by step, on memory of their own."""

    def __init__(self, programs: Programs, executor: Executor, program: Program) -> None:
        super().__init__(programs, executor)
        self._timed = Instance(program, timed=1)

    def losses(self, threads: int, seconds: Sequence[float], nbytes: int) -> list[Loss | None]:
        """What each step of the program loses that took so long; all its values and weights have `nbytes`.

        After a run. Empty for one thread, for batches sample by sample, and where the reference evaluator runs steps.
        """
        table = self._timed.table
        if threads == 1 or len(seconds) != len(table):
            return []
        shares = time_shares(table, threads)
        return [loss_of(one, taken * 1e9, nbytes) for one, taken in zip(shares, seconds)]

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


class StagedRequest(CpuRequest):
    """A request whose inferences of several stages are timed step by step, on memory of their own.

    Attributes:
        stages: those of the last inference.
        times: what each of them took.
    """

    def __init__(self, programs: Programs, executor: Executor) -> None:
        super().__init__(programs, executor)
        self._instances: dict[Any, Any] = {}
        self.stages: Sequence[Stage] = ()
        self.times: StageTimes = {}

    def _new_run(self, stream: Stream, inputs: list[Any]) -> Run:
        return Run(self._programs.stages, self._instances, self.control, inputs, timed=1)

    def _note(self, run: Run, inputs: list[Any]) -> None:
        sums: dict[Program | Node, list[list[int]]] = {}
        for ran, taken in run.times:
            sums.setdefault(ran, []).append([*taken])
        self.times = {ran: ((np.sum(taken, axis=0) * 1e-9).tolist(), len(taken)) for ran, taken in sums.items()}
        self.stages = tuple(run.seen)


def measure_stages(request: StagedRequest, programs: Programs) -> tuple[Sequence[Stage], StageTimes | None, str]:
    """The stages of inferences on random inputs by one stream, their times (medians), and a sentence about them.

    The inputs are like those of the latest inference; without one they have the shapes that the model states. The
    times are None where such an inference is not possible; the sentence says why.
    """
    examples = programs.latest
    if examples is None and all(port.partial_shape.is_static for port in programs.inputs):
        examples = [tuple(port.partial_shape.to_shape()) for port in programs.inputs]
    if examples is None:
        return (), None, "not measured: shapes of inputs are not known before the first inference; run one"
    generator = np.random.default_rng(0)
    for index, (port, example) in enumerate(zip(programs.inputs, examples)):
        if port.kind is not Kind.TENSOR:
            return (), None, f"not measured: input '{printable(port.name)}' is no tensor; compile with PERF_COUNT"
        if isinstance(example, np.ndarray):
            request.input_array(index, example.shape)[...] = example
            continue
        array = request.input_array(index, example)
        if array.dtype.kind == "f":
            array[...] = generator.standard_normal(example)
    found: list[StageTimes] = []

    def run() -> float:
        request.start(Terms(deadline=time.perf_counter_ns() + LONGEST_SECONDS * 10**9))
        request.wait()
        error, _ = request.result()
        if error is not None:
            raise error
        found.append(request.times)
        return sum(sum(seconds) for seconds, _ in request.times.values())

    try:
        run()
        found.clear()
        alternate([run], ENOUGH_SECONDS, MOST, FEWEST)
    except (InvalidArgumentError, DeadlineExceededError) as error:
        return (), None, f"not measured: an inference on random inputs failed; compile with PERF_COUNT instead: {error}"
    times: StageTimes = {}
    for ran, (_, runs) in request.times.items():
        columns = np.array([one[ran][0] for one in found if ran in one])
        times[ran] = np.median(columns, axis=0).tolist(), runs
    return request.stages, times, "measured on random inputs; steps of the bodies of loops in all iterations together"
