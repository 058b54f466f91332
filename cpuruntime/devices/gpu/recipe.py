"""What a program is made from: launches, constants and ports as plain data, which can be stored."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.compiler.sources import package_digest
from cpuruntime.gpu_runtime.interface import Buffer, GpuRuntime, KernelSource, Launch
from cpuruntime.graph import Graph, Value
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.devices.gpu.lower import Lowered

Exported = tuple[dict[str, Any], dict[str, list[bytes | memoryview]]]

LAUNCHES, CONSTANTS = "launches", "constants"
"""Sections of a file."""


def made_for(runtime: GpuRuntime) -> list[str]:
    """What stored models depend on beside the model and its settings: the package's sources, the device, its driver."""
    return [package_digest(), runtime.facts.name, runtime.facts.driver]


@dataclass(frozen=True)
class Step:
    """A node of the graph after all passes: its name, its operator, the model's nodes, and how errors call it."""

    name: str
    op_type: str
    origins: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Port:
    """Where an input or output of the graph is bound: its buffer's key, its shape, and its size in bytes."""

    key: Hashable
    shape: tuple[int, ...]
    nbytes: int


@dataclass
class Recipe:
    """A lowered graph of known shapes.

    Attributes:
        name: the model's.
        launches: in their order; the keys of buffers are numbers.
        places: for each launch the step it belongs to, -1 for none.
        constants: what is in constant buffers, by key.
        same: outputs that are inputs, each with the input; no launch writes them.
    """

    name: str
    steps: list[Step]
    launches: list[Launch]
    places: list[int]
    inputs: list[Port]
    outputs: list[Port]
    constants: dict[Hashable, np.ndarray]
    same: list[tuple[int, int]]

    @classmethod
    def of(cls, graph: Graph, lowered: Lowered) -> Recipe:
        """That of a graph after all passes and what it was lowered to."""
        numbers: dict[Hashable, int] = {}

        def numbered(argument: Any) -> Any:
            if not isinstance(argument, Buffer):
                return argument.item() if isinstance(argument, np.generic) else argument
            key = numbers.setdefault(argument.key, len(numbers))
            return Buffer(key, argument.nbytes, argument.kind)

        def port(value: Value) -> Port:
            place = lowered.values[value]
            return Port(numbered(place.buffer).key, tuple(place.shape), place.buffer.nbytes)

        places = {id(node): place for place, node in enumerate(graph.nodes)}
        return cls(
            graph.name,
            [Step(node.name, node.op_type, tuple(node.origins), node.where) for node in graph.nodes],
            [
                Launch(one.kernel, tuple(map(numbered, one.arguments)), one.global_size, one.local_size)
                for one in lowered.launches
            ],
            [places.get(id(node), -1) for node in lowered.nodes],
            list(map(port, graph.inputs)),
            list(map(port, graph.outputs)),
            {numbered(buffer).key: array for buffer, array in lowered.constants.items()},
            [
                (o, i)
                for o, output in enumerate(graph.outputs)
                for i, value in enumerate(graph.inputs)
                if value is output
            ],
        )

    def stored(self, constants: Mapping[Hashable, np.ndarray]) -> Exported:
        """Facts that JSON can hold, and sections of memory; `constants` are what is in constant buffers."""
        kernels = list(dict.fromkeys(launch.kernel for launch in self.launches))
        numbers = {kernel: number for number, kernel in enumerate(kernels)}
        launches = [
            [
                numbers[one.kernel],
                [[a.key, a.nbytes, a.kind] if isinstance(a, Buffer) else a for a in one.arguments],
                one.global_size,
                one.local_size,
            ]
            for one in self.launches
        ]
        document = {
            "steps": [[step.name, step.op_type, step.origins, step.where] for step in self.steps],
            "kernels": [[kernel.entry, kernel.text] for kernel in kernels],
            "launches": launches,
            "places": self.places,
            "ports": [[[p.key, p.shape, p.nbytes] for p in ports] for ports in (self.inputs, self.outputs)],
            "same": self.same,
        }
        facts = {"name": self.name, "constants": [[key, array.nbytes] for key, array in constants.items()]}
        memory = [array.reshape(-1).view(np.uint8).data for array in constants.values()]
        return facts, {LAUNCHES: [json.dumps(document).encode()], CONSTANTS: memory}

    @classmethod
    def restored(cls, facts: Mapping[str, Any], file: SectionFile) -> Recipe:
        """What `stored` was called on. Raises ValueError where it does not fit together."""
        document = json.loads(bytes(file[LAUNCHES]))
        kernels = [KernelSource(*row) for row in document["kernels"]]
        launches = [
            Launch(kernels[number], tuple(map(_argument, arguments)), tuple(global_size), tuple(local_size))
            for number, arguments, global_size, local_size in document["launches"]
        ]
        constants: dict[Hashable, np.ndarray] = {}
        memory, begin = np.frombuffer(file[CONSTANTS], np.uint8), 0
        for key, nbytes in facts["constants"]:
            constants[key] = memory[begin : begin + nbytes]
            begin += nbytes
        if begin != memory.size:
            raise ValueError("its constants have another size")
        inputs, outputs = ([Port(key, tuple(shape), size) for key, shape, size in rows] for rows in document["ports"])
        steps = [Step(name, op_type, tuple(origins), where) for name, op_type, origins, where in document["steps"]]
        same = [(output, source) for output, source in document["same"]]
        return cls(facts["name"], steps, launches, document["places"], inputs, outputs, constants, same)


def _argument(row: Any) -> Buffer | int | float:
    return Buffer(*row) if isinstance(row, Sequence) else row
