"""An inference's way through the stages of a model, on one stream."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from cpuruntime.errors import CancelledError, DeadlineExceededError, InvalidArgumentError, ModelError
from cpuruntime.graph import Kind, Node
from cpuruntime.operators.shape_inference import evaluate
from cpuruntime.program.instances import instance_of
from cpuruntime.program.lowerings import data_dependent
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.stages import loops
from cpuruntime.program.stages.stage import Stage, Stages
from cpuruntime.streams.job import Control, Job
from cpuruntime.trace.events import Times

Jobs = Generator[Job, None, list[Any]]
"""Native jobs, each to be run before the next is asked for; in the end it returns the results."""


class Run:
    """Runs stages by jobs that the caller gives to a stream, which has `instances` of programs.

    Values are arrays, C-contiguous, lists of arrays for sequences, or None for what is absent; others may write to the
    arrays `shared` at any time. Raises CancelledError and DeadlineExceededError between steps as `control` says. With
    `timed`, `times` has the nanoseconds of the steps of each program, and of each node that ran by itself. `seen` are
    the stages so far.
    """

    def __init__(
        self, stages: Stages, instances: dict[Any, Any], control: Control, shared: Sequence[np.ndarray] = (),
        timed: int = 0,
    ) -> None:  # fmt: skip
        self.stages = stages
        self.times: list[tuple[Program | Node, Times]] = []
        self.seen: dict[Stage, None] = {}
        self._instances = instances
        self._control = control
        self._shared = {id(value) for value in shared if isinstance(value, np.ndarray)}
        self._timed = timed

    def run(self, stage: Stage, values: Sequence[Any], targets: Sequence[np.ndarray | None]) -> Jobs:
        """The outputs of a stage and those that follow it.

        An output is the array among `targets` at its place if that has its type and shape and a program makes it;
        else it lies in memory that is used again by the next run, or is one of `values`.
        """
        results: list[Any] = [None] * len(targets)
        places = [[place] for place in range(len(targets))]
        while True:
            parts = stage.parts
            if parts.parameters:
                stage = self.stages.specialised(stage, [values[index].copy() for index in parts.parameters])
                values = [value for index, value in enumerate(values) if index not in parts.parameters]
                continue
            self.seen[stage] = None
            slots = list(values)
            if stage.program is not None:
                wanted = {source: targets[own[0]] for own, source in zip(places, parts.outputs) if type(source) is int}
                first = len(slots)
                given = [wanted.get(first + index) for index in range(len(stage.program.output_shapes))]
                slots += yield from self._program(stage.program, [slots[index] for index in parts.static_inputs], given)
            for node, sources in parts.steps:
                self.check(node)
                inputs = [slots[source] if type(source) is int else source for source in sources]
                slots += yield from self._step(node, inputs)
            later: dict[int, list[int]] = {}
            for own, source in zip(places, parts.outputs):
                if type(source) is int and source >= len(slots):
                    later.setdefault(source - len(slots), []).extend(own)
                    continue
                for place in own:
                    results[place] = slots[source] if type(source) is int else source
            if stage.following is None:
                return results
            values = [slots[index] for index in parts.rest_inputs]
            places = [later[index] for index in range(len(later))]
            stage = self.stages.of(stage.following, values)

    def instance(self, program: Program) -> Instance:
        """The stream's instance of a program."""
        return instance_of(self._instances, program, self._timed)

    def check(self, node: Node) -> None:
        """Raise where the inference is to end before `node`."""
        if self._control.is_cancelled:
            raise CancelledError(f"The inference was cancelled before {node.where}.")
        if 0 < self._control.deadline <= time.perf_counter_ns():
            raise DeadlineExceededError(f"The inference's deadline passed before {node.where}.")

    def _program(self, program: Program, inputs: list[np.ndarray], targets: list[np.ndarray | None]) -> Jobs:
        instance = self.instance(program)
        instance.owner = None
        outputs = instance.results(targets)
        inputs = [array if array.flags.c_contiguous else np.asarray(array, order="C") for array in inputs]
        for index, array in enumerate(inputs):
            instance.bind(Place.INPUT, index, array.ctypes.data)
        for index, array in enumerate(outputs):
            instance.bind(Place.OUTPUT, index, array.ctypes.data)
        if instance.whole is not None:
            yield instance.whole
            return outputs
        job = instance.begin(inputs, outputs)
        while job is not None:
            yield job
            job = instance.resume()
        if self._timed:
            self.times.append((program, instance.times))
        return outputs

    def _step(self, node: Node, inputs: list[Any]) -> Jobs:
        began = time.perf_counter_ns()
        function = loops.RUNS.get(node.op_type) if node.domain == "" else None
        if function is not None:
            return (yield from function(self, node, inputs))
        # Sequences outlive the memory of programs; NumPy reads indices again after it has checked them.
        lives_on = any(value.kind is not Kind.TENSOR for value in node.outputs)
        inputs = [
            value.copy() if isinstance(value, np.ndarray) and (lives_on or id(value) in self._shared) else value
            for value in inputs
        ]
        try:
            computed = data_dependent.compute(node, inputs)
            results = [as_value(result) for result in evaluate(node, inputs)] if computed is None else computed
        except ModelError as error:
            raise InvalidArgumentError(str(error)) from error
        if self._timed:
            self.times.append((node, [time.perf_counter_ns() - began]))
        return results


def as_value(result: Any) -> Any:
    """What an evaluation gave as programs take it."""
    return result if result is None or isinstance(result, list) else np.asarray(result, order="C")
