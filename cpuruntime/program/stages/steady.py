"""Iterations of a body that is one program and keeps the shapes of its states: they run without the interpreter."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from math import prod

import numpy as np

from cpuruntime.host.memory import aligned_zeros
from cpuruntime.ops.iteration import iterate
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.stages.rows import Rows
from cpuruntime.records import record
from cpuruntime.streams.job import ELAPSED, Job
from cpuruntime.streams.native.runner import AGAIN, ALONE


@record
class Ports:
    """What the inputs and outputs of a body are: those in front, the states, rows, and then captured values.

    Attributes:
        front: 1 where input 0 is the number of the iteration and output 0 a condition, else 0.
        states: how many.
        rows: inputs behind the states of which each iteration has a row of its own.
    """

    front: int
    states: int
    rows: int = 0

    @property
    def behind(self) -> int:
        """The place of the first input or output behind the states."""
        return self.front + self.states


def is_steady(program: Program | None, ports: Ports) -> bool:
    """Whether the states that a body gives are of the types and shapes that it takes, and a condition is one byte."""
    if program is None or not program.image.steps:
        return False
    inputs, outputs = program.image.inputs, program.image.outputs
    one_byte = all(prod(shape) == 1 and dtype == np.bool_ for shape, dtype in outputs[: ports.front])
    states = slice(ports.front, ports.behind)
    return one_byte and inputs[states] == outputs[states]


class Steady:
    """Iterations of a body on an instance of its program, by jobs that each run many.

    Two arrays of each state take turns: an iteration reads the one and writes the other.
    """

    def __init__(self, instance: Instance, ports: Ports) -> None:
        self._ports = ports
        states = instance.image.outputs[ports.front : ports.behind]
        self._states, self._others = ([aligned_zeros(*state) for state in states] for _ in range(2))
        self._condition = aligned_zeros((), np.dtype(np.bool_))
        self._counter, self._left = (aligned_zeros((), np.dtype(np.int64)) for _ in range(2))
        front = [(self._counter.ctypes.data, self._condition.ctypes.data)] * ports.front
        turns = [[array.ctypes.data for array in arrays] for arrays in (self._states, self._others)]
        # Addresses of inputs and outputs, of an iteration and of the next one.
        self._addresses, self._turned = ([*front, *zip(*order)] for order in (turns, turns[::-1]))
        self._strides = [
            [prod(shape) * dtype.itemsize for shape, dtype in port]
            for port in (instance.image.inputs[ports.behind :][: ports.rows], instance.image.outputs[ports.behind :])
        ]
        self._changes = self._find_changes(instance)
        self._job = self._make_job(instance)

    def run(
        self, instance: Instance, inputs: Sequence[np.ndarray], rows: Sequence[np.ndarray], scans: Sequence[Rows],
        number: int, end: int,
    ) -> Generator[Job, None, list[np.ndarray]]:  # fmt: skip
        """The iterations from `number` to `end`, or until the condition ends them; `inputs` are those of the first.

        Each reads its own of `rows`, which are C-contiguous, and adds to `scans`. Each job has to be run before the
        next is asked for. Returns the states, in memory that the next run uses again. Raises InvalidArgumentError when
        the data broke a rule.
        """
        ports = self._ports
        for scan, output in zip(scans, instance.image.outputs[ports.behind :]):
            scan.expect(*output)
        for state, array in zip(self._states, inputs[ports.front :]):
            state[...] = array
        self._condition[...] = True
        self._counter[...] = number
        instance.faults.fill(0)
        while number < end and self._condition:
            part = min([end - number, *(scan.room() for scan in scans)])
            reads = [row.ctypes.data + number * stride for row, stride in zip(rows, self._strides[0])]
            self._bind(instance, reads, [scan.address() for scan in scans])
            for index in range(ports.behind + ports.rows, len(inputs)):
                instance.bind(Place.INPUT, index, inputs[index].ctypes.data)
            instance.unbind()  # iterations bind other addresses natively
            self._left[...] = part
            self._job.fields[ELAPSED] = 0  # however short the last run was, this one must not hold the GIL
            yield self._job
            instance.check_faults()
            ran = part - int(self._left)
            number += ran
            for scan in scans:
                scan.add(ran)
            if ran % 2:
                self._turn()
        return self._states

    def _turn(self) -> None:
        self._states, self._others = self._others, self._states
        self._addresses, self._turned = self._turned, self._addresses

    def _bind(self, instance: Instance, reads: Sequence[int], writes: Sequence[int]) -> None:
        """Bind all but captured values; `reads` and `writes` are the addresses of rows."""
        instance.owner = None
        for index, (before, after) in enumerate(self._addresses):
            instance.bind(Place.INPUT, index, before)
            instance.bind(Place.OUTPUT, index, after)
        for place, addresses in ((Place.INPUT, reads), (Place.OUTPUT, writes)):
            for index, address in enumerate(addresses, start=self._ports.behind):
                instance.bind(place, index, address)

    def _find_changes(self, instance: Instance) -> np.ndarray:
        """What `iterate` is to change after each iteration: the words that change when others are bound."""
        words, nowhere = instance.words, [[ALONE] * len(strides) for strides in self._strides]
        instance.unbind()
        self._bind(instance, *nowhere)
        before = words.copy()
        self._turn()
        self._bind(instance, *nowhere)
        turned = words.copy()
        self._bind(instance, *([ALONE + stride for stride in strides] for strides in self._strides))
        bits, steps = before ^ turned, words - turned
        places = np.flatnonzero(bits | steps)
        changes = np.stack([words.ctypes.data + 8 * places, bits[places], steps[places]], axis=1)
        counter = [[self._counter.ctypes.data, 0, 1]]
        return np.ascontiguousarray(np.concatenate([changes, counter]), np.int64)

    def _make_job(self, instance: Instance) -> Job:
        """The steps of the body, and one that prepares the next iteration."""
        block = np.zeros(1, iterate.arguments)
        table = np.concatenate([instance.table, [[iterate.address, block.ctypes.data + ALONE]]])
        job = Job(table, (block, self._changes, self._condition, self._left))
        block["changes"], block["count"] = self._changes.ctypes.data, len(self._changes)
        block["condition"] = self._condition.ctypes.data if self._ports.front else 0
        block["faults"], block["fault_count"] = instance.faults.ctypes.data, len(instance.image.faults)
        block["left"], block["again"] = self._left.ctypes.data, job.address + AGAIN
        return job
