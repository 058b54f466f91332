"""Loop, Scan and SequenceMap: each iteration is a run of the body, a graph of its own that is planned once a shape."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import numpy as np

from cpuruntime.errors import Error
from cpuruntime.graph import Graph, Kind, Node, Type, Value
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.operators import control_flow
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.stages.rows import Rows
from cpuruntime.program.stages.stage import Root, Stage, Stages
from cpuruntime.program.stages.steady import Ports, Steady, is_steady
from cpuruntime.streams.job import Job

Jobs = Generator[Job, None, list[Any]]

ENDLESS = 1 << 62
"""Iterations of a loop without a trip count, at most."""


class Runner(Protocol):
    """What runs the stages of a body; `program.stages.run.Run` is one."""

    stages: Stages

    def run(self, stage: Stage, values: Sequence[Any], targets: Sequence[np.ndarray | None]) -> Jobs:
        """The outputs of a stage."""

    def instance(self, program: Program) -> Instance:
        """The stream's instance of a program."""

    def check(self, node: Node) -> None:
        """Raise where the inference is to end."""


class _States:
    """The state variables of a loop: an iteration writes to other memory than that it reads."""

    def __init__(self, node: Node, first: Sequence[Any]) -> None:
        self._node = node
        self.now = list(first)
        self._own = [False] * len(self.now)
        self._spare: list[np.ndarray | None] = [None] * len(self.now)

    def targets(self) -> list[np.ndarray | None]:
        """Where the next iteration may write."""
        for index, (state, spare) in enumerate(zip(self.now, self._spare)):
            if spare is None and isinstance(state, np.ndarray) and not state.dtype.hasobject:
                self._spare[index] = aligned_zeros(state.shape, state.dtype)
        return self._spare

    def take(self, results: Sequence[Any]) -> None:
        """The iteration gave `results`."""
        after = []
        for index, (before, result) in enumerate(zip(self.now, results)):
            control_flow.check_state(self._node, index, before, result)
            kept = result is self._spare[index] or result is before or not isinstance(result, np.ndarray)
            after.append(result if kept else result.copy())
        for index, (before, state) in enumerate(zip(self.now, after)):
            if state is not before:
                self._spare[index] = before if self._own[index] else None
                self._own[index] = isinstance(state, np.ndarray)
        self.now = after


def _loop(runner: Runner, node: Node, values: list[Any]) -> Jobs:
    count = len(values) - node.captures
    limit = control_flow.trip_count(node, values[:count])
    go_on = count < 2 or values[1] is None or control_flow.truth(node, values[1])
    states = _States(node, values[2:count])
    end = ENDLESS if limit is None else limit
    scans = [Rows(node, value, end) for value in node.attributes["body"].outputs[1 + len(states.now) :]]
    root = runner.stages.body(node, lambda: _loop_root(node, len(states.now)))
    iteration = np.zeros((), np.int64)
    count_of = iteration.reshape(1).data
    ports = Ports(1, len(states.now))
    while go_on and count_of[0] < end:
        runner.check(node)
        inputs = [iteration, *states.now, *values[count:]]
        stage = runner.stages.of(root, inputs)
        steady = _steady(runner, stage, ports)
        if steady is not None:
            states.now = yield from steady(inputs, (), scans, count_of[0], end)
            break
        targets = [None, *states.targets(), *(rows.target() for rows in scans)]
        condition, *results = yield from runner.run(stage, inputs, targets)
        go_on = control_flow.truth(node, condition)
        for rows, result in zip(scans, results[len(states.now) :]):
            rows.take(result)
        states.take(results[: len(states.now)])
        count_of[0] += 1
    return [*states.now, *(rows.all() for rows in scans)]


def _steady(runner: Runner, stage: Stage, ports: Ports) -> Callable[..., Jobs] | None:
    """Iterations without the interpreter; None for a body that is more than one job or changes its shapes."""
    if not is_steady(stage.whole, ports):
        return None
    assert stage.whole is not None
    instance = runner.instance(stage.whole)
    if instance.only is None:
        return None
    program, steady = instance.iterations
    if program is not stage.whole:
        steady = Steady(instance, ports)
        instance.iterations = stage.whole, steady
    return partial(steady.run, instance)


def _loop_root(node: Node, states: int) -> Root:
    """The body of a Loop without its condition, which is true in every iteration."""
    body: Graph = node.attributes["body"].clone()
    body.replace(body.inputs[1], Value.of(body.inputs[1].name, np.array(True)))
    del body.inputs[1]
    return Root(body, range(1 + states))


def _scan_root(node: Node, count: int) -> Root:
    return Root(node.attributes["body"].clone(), range(count))


def _scan(runner: Runner, node: Node, values: list[Any]) -> Jobs:
    if node.version < 9:
        return (yield from _batched_scan(runner, node, values))
    count = len(values) - node.captures
    return (yield from _scan_rows(runner, node, values[:count], values[count:]))


def _scan_rows(runner: Runner, node: Node, values: list[Any], captures: list[Any]) -> Jobs:
    body: Graph = node.attributes["body"]
    first, sequences = control_flow.scan_inputs(node, values)
    length = control_flow.scan_length(node, sequences)
    sequences = [np.asarray(rows, order="C") for rows in sequences]
    states = _States(node, first)
    scans = [Rows(node, value, length) for value in body.outputs[len(first) :]]
    root = runner.stages.body(node, lambda: _scan_root(node, len(values)))
    ports = Ports(0, len(first), len(sequences))
    for step in range(length):
        runner.check(node)
        inputs = [*states.now, *(rows[step, ...] for rows in sequences), *captures]
        stage = runner.stages.of(root, inputs)
        steady = _steady(runner, stage, ports)
        if steady is not None:
            states.now = yield from steady(inputs, sequences, scans, step, length)
            break
        targets = [*states.targets(), *(rows.target() for rows in scans)]
        results = yield from runner.run(stage, inputs, targets)
        for rows, result in zip(scans, results[len(first) :]):
            rows.take(result)
        states.take(results[: len(first)])
    outputs: list[Any] = list(states.now)
    axes, directions = control_flow.scan_outputs(node, len(scans))
    for rows, axis, backwards in zip(scans, axes, directions):
        outputs.append(rows.all(axis, bool(backwards)))
    return outputs


def _batched_scan(runner: Runner, node: Node, values: list[Any]) -> Jobs:
    """Opset 8: the first axis is the batch, the second the sequence, of a length of its own for each sample."""
    count = len(values) - node.captures
    samples = []
    for sample in control_flow.samples(node, values[:count]):
        results = yield from _scan_rows(runner, node, sample, values[count:])
        samples.append([result.copy() for result in results])
    return control_flow.batch_of(node, values[:count], samples)


def _sequence_map(runner: Runner, node: Node, values: list[Any]) -> Jobs:
    body: Graph = node.attributes["body"]
    count = len(values) - node.captures
    root = runner.stages.body(node, lambda: Root(body.clone(), range(count)))
    outputs: list[list[Any]] = [[] for _ in body.outputs]
    for items in control_flow.items(node, values[:count]):
        runner.check(node)
        inputs = [*items, *values[count:]]
        results = yield from runner.run(runner.stages.of(root, inputs), inputs, [None] * len(outputs))
        for sequence, result in zip(outputs, results):
            sequence.append(result.copy() if isinstance(result, np.ndarray) else result)
    return list(outputs)


RUNS: dict[str, Callable[[Runner, Node, list[Any]], Jobs]] = {
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}
"""How nodes of control flow run, by operator."""


def plan_bodies(stages: Stages, stage: Stage) -> None:
    """Plan the bodies of the loops in a stage, and of those in them, for the shapes of their first iterations.

    Bodies are left out whose inputs have shapes that are not known yet, and those that cannot be planned: an inference
    says why.
    """
    for node, _ in stage.parts.steps:
        if node.domain != "" or node.op_type not in ("Loop", "Scan"):
            continue
        count = len(node.inputs) - node.captures
        is_loop = node.op_type == "Loop"
        make = partial(_loop_root, node, count - 2) if is_loop else partial(_scan_root, node, count)
        with suppress(Error, IndexError, ValueError):
            inputs = _first_inputs(node)
            if inputs is not None:
                plan_bodies(stages, stages.of(stages.body(node, make), inputs))


def _first_inputs(node: Node) -> list[Any] | None:
    """Zeros as the first iteration takes them; None where their shapes are not known."""
    if node.op_type == "Scan" and node.version < 9:
        return None
    found: list[Any] = [np.zeros((), np.int64)] if node.op_type == "Loop" else []
    first = 2 if node.op_type == "Loop" else 0
    count = node.attributes.get("num_scan_inputs", 0)
    rows = len(node.inputs) - node.captures - count
    axes = node.attributes.get("scan_input_axes") or [0] * count
    for index, value in enumerate(node.inputs[first:], start=first):
        if value is None or value.kind is not Kind.TENSOR or not value.is_static or value.element_type == Type.string:
            return None
        shape = list(map(int, value.static_shape))
        if rows <= index < rows + count:
            del shape[axes[index - rows]]
        found.append(np.broadcast_to(np.zeros((), value.element_type.to_dtype()), shape))
    return found
