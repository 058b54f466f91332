"""A lowered graph on a device: its kernels, its constants, and a plan of its memory, shared by all streams."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from cpuruntime.devices.gpu.modules import Modules
from cpuruntime.errors import printable
from cpuruntime.gpu_runtime.interface import Buffer, Call, GpuRuntime, Memory, Queue, Recorded, Slot
from cpuruntime.graph import Graph, Node
from cpuruntime.program.plan.arena import assign_slots, plan_arena
from cpuruntime.program.plan.storage import Place, Storage

if TYPE_CHECKING:
    from cpuruntime.devices.gpu.lower import Lowered


class Constants:
    """Constants on a device by their content, while a program holds them: programs for other shapes share them."""

    def __init__(self, runtime: GpuRuntime) -> None:
        self._runtime = runtime
        self._held: WeakValueDictionary[bytes, Memory] = WeakValueDictionary()

    def memory(self, array: np.ndarray) -> Memory:
        """Device memory that holds an array. Raises OutOfMemoryError."""
        array = np.ascontiguousarray(array)
        digest = hashlib.blake2b(array.reshape(-1).view(np.uint8), digest_size=20).digest()
        memory = self._held.get(digest)
        if memory is None:
            memory = self._held[digest] = self._runtime.allocate(array.nbytes)
            self._runtime.fill(memory, array)
        return memory


@dataclass(frozen=True)
class Port:
    """Where an input or output of the graph is bound: its buffer's key, its shape, and its size in bytes."""

    key: Hashable
    shape: tuple[int, ...]
    nbytes: int


class Program:
    """What a graph of known shapes became. Immutable.

    Args:
        graph: after all passes; `lowered` is what it was lowered to.
        prelude: goes before the text of each kernel.
        profiled: whether launches are timed.

    Attributes:
        inputs, outputs: the ports in the graph's order.
        parts: (port, offset) of each slot, ports counted through inputs and outputs.
        same: outputs that are inputs, each with the input; no launch writes them.
        arena_size, unshared_size: bytes of a stream's memory, and what it would be if nothing were shared.

    Raises:
        UnsupportedError: a kernel does not build; the message names the node.
        OutOfMemoryError: the device has not the memory for the constants.
    """

    def __init__(
        self, runtime: GpuRuntime, graph: Graph, lowered: Lowered, prelude: str, modules: Modules, constants: Constants,
        is_low: bool = False,
    ) -> None:  # fmt: skip
        self.runtime, self.graph, self.prelude = runtime, graph, prelude
        self.launches, self.nodes = lowered.launches, lowered.nodes
        self.inputs = [_port(lowered, value) for value in graph.inputs]
        self.outputs = [_port(lowered, value) for value in graph.outputs]
        texts: dict[str, str] = {}
        for launch, node in zip(self.launches, self.nodes):
            texts.setdefault(prelude + launch.kernel.text, f"Model '{printable(graph.name)}', {node.where}")
        self.modules = modules.build(runtime, texts, is_low)
        self._constants = {buffer.key: constants.memory(array) for buffer, array in lowered.constants.items()}
        self.constants_size = sum({id(one): one.nbytes for one in self._constants.values()}.values())
        self.same = [
            (o, i) for o, output in enumerate(graph.outputs) for i, v in enumerate(graph.inputs) if v is output
        ]
        ports = [*self.inputs, *self.outputs]
        self._ports = {port.key: index for index, port in reversed([*enumerate(ports)])}
        uses = [
            a for launch in self.launches for a in launch.arguments if isinstance(a, Buffer) and a.key in self._ports
        ]
        self.parts = list(dict.fromkeys((self._ports[buffer.key], buffer.offset) for buffer in uses))
        self._plan()

    def _plan(self) -> None:
        """Decide where in a stream's memory buffers lie: those that are not alive at the same time share it."""
        alignment = max(self.runtime.facts.alignment, 64)
        storages: dict[Hashable, Storage] = {}
        for step, launch in enumerate(self.launches):
            for buffer in launch.arguments:
                if not isinstance(buffer, Buffer) or buffer.key in self._ports or buffer.key in self._constants:
                    continue
                size = -(-max(buffer.nbytes, 1) // alignment) * alignment
                storage = storages.setdefault(buffer.key, Storage(Place.ARENA, size, first_step=step))
                storage.last_step = step
        self._storages = storages
        self.unshared_size = sum(one.size for one in storages.values())
        self.arena_size = plan_arena(storages.values())
        self._slots = [] if self.arena_size <= self.runtime.facts.largest else assign_slots(storages.values())
        if self._slots:
            self.arena_size = sum(max(one.size for one in slot) for slot in self._slots)

    def allocate(self) -> dict[Hashable, Memory]:
        """A stream's memory, by the keys of buffers. Raises OutOfMemoryError."""
        if self._slots:
            memories = [self.runtime.allocate(max(one.size for one in slot)) for slot in self._slots]
            of = {id(one): memory for slot, memory in zip(self._slots, memories) for one in slot}
            return {key: of[id(one)].at(0, one.size) for key, one in self._storages.items()}
        if not self._storages:
            return {}
        arena = self.runtime.allocate(self.arena_size)
        return {key: arena.at(one.offset, one.size) for key, one in self._storages.items()}

    def record(self, queue: Queue) -> Recorded:
        """The launches with memory of their own, for the submissions of one queue. Raises OutOfMemoryError."""
        memories = {**self.allocate(), **self._constants}
        parts: dict[tuple[Hashable, int], Memory] = {}

        def bound(argument: Buffer | int | float) -> Memory | Slot | int | float:
            if not isinstance(argument, Buffer):
                return argument
            place = argument.key, argument.offset
            if argument.key in self._ports:
                return Slot(self.parts.index((self._ports[argument.key], argument.offset)))
            if place not in parts:
                whole = memories[argument.key]
                parts[place] = whole.at(argument.offset, whole.nbytes - argument.offset)
            return parts[place]

        return queue.record([
            Call(
                self.modules[self.prelude + launch.kernel.text], launch.kernel.entry,
                tuple(map(bound, launch.arguments)), launch.global_size, launch.local_size,
            )
            for launch in self.launches
        ])  # fmt: skip

    def names(self, node: Node) -> str:
        """The kernels that compute a node."""
        entries = (launch.kernel.entry for launch, of in zip(self.launches, self.nodes) if of is node)
        return ", ".join(dict.fromkeys(entries)) or "nothing: the memory serves as it is"

    def times(self, launches: list[int]) -> Mapping[int, int]:
        """Nanoseconds of each node, by its place in the graph, from those of launches."""
        places = {id(node): place for place, node in enumerate(self.graph.nodes)}
        found: dict[int, int] = {}
        for node, taken in zip(self.nodes, launches):
            place = places.get(id(node))
            if place is not None:
                found[place] = found.get(place, 0) + taken
        return found


def _port(lowered: Lowered, value: object) -> Port:
    place = lowered.values[value]
    return Port(place.buffer.key, tuple(place.shape), place.buffer.nbytes)
