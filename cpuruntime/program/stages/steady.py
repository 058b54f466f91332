"""Iterations of a body that is one program and keeps the shapes of its states: nothing but jobs between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from cpuruntime.host.memory import aligned_zeros
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.stages.rows import Rows
from cpuruntime.streams.job import Job


@dataclass
class Ports:
    """What the inputs and outputs of a body are: `states` are inputs from `first` on, `results` from `second` on.

    The inputs `rows`, by number, are rows of arrays, one for each iteration; the outputs behind the states are `scans`.
    """

    first: int
    second: int
    states: int
    rows: dict[int, np.ndarray] = field(default_factory=dict)


def is_steady(program: Program | None, ports: Ports) -> bool:
    """Whether the states that a body gives are of the types and shapes that it takes, and a condition is one byte."""
    if program is None or not program.image.steps or program.image.faults:
        return False
    inputs, outputs = program.image.inputs, program.image.outputs
    one_byte = all(prod(shape) == 1 and dtype == np.bool_ for shape, dtype in outputs[: ports.second])
    states = slice(ports.first, ports.first + ports.states), slice(ports.second, ports.second + ports.states)
    return one_byte and inputs[states[0]] == outputs[states[1]]


class Steady:
    """Two instances of a body take turns: each reads the states that the other has written.

    `inputs` are those of one iteration. Each job has to be run before the next is asked for.
    """

    def __init__(
        self, pair: Sequence[Instance], ports: Ports, inputs: Sequence[np.ndarray], scans: Sequence[Rows]
    ) -> None:
        image = pair[0].image
        self._pair, self._ports, self._scans = pair, ports, scans
        own = range(ports.first, ports.first + ports.states)
        self.states = [np.array(inputs[index], order="C") for index in own]
        self._others = [aligned_zeros(*image.outputs[ports.second + place]) for place in range(ports.states)]
        self.condition = aligned_zeros((), np.dtype(np.bool_))
        self.condition[...] = True
        self._kept = inputs
        for instance, before, after in ((pair[0], self.states, self._others), (pair[1], self._others, self.states)):
            instance.owner = None
            for index, array in enumerate(inputs):
                if index not in own:
                    instance.bind(Place.INPUT, index, array.ctypes.data)
            for index in range(ports.second):
                instance.bind(Place.OUTPUT, index, self.condition.ctypes.data)
            for place in range(ports.states):
                instance.bind(Place.INPUT, ports.first + place, before[place].ctypes.data)
                instance.bind(Place.OUTPUT, ports.second + place, after[place].ctypes.data)
        self._rows = [(index, rows.ctypes.data, rows.strides[0]) for index, rows in ports.rows.items()]
        for place, rows in enumerate(scans):
            rows.expect(*image.outputs[ports.second + ports.states + place])

    def step(self, number: int) -> Job:
        """The job of iteration `number`, counted from 0 in the scan inputs."""
        instance, other = self._pair
        self._pair = other, instance
        self.states, self._others = self._others, self.states
        for index, address, stride in self._rows:
            instance.bind(Place.INPUT, index, address + number * stride)
        for index, rows in enumerate(self._scans, start=self._ports.second + self._ports.states):
            instance.bind(Place.OUTPUT, index, rows.next_address())
        job = instance.whole
        assert job is not None
        return job
