"""A lowered graph on a device: its kernels, its constants, and a plan of its memory, shared by all streams."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from weakref import WeakValueDictionary

import numpy as np

from cpuruntime.devices.gpu.modules import Modules
from cpuruntime.devices.gpu.recipe import Exported, Recipe
from cpuruntime.errors import printable
from cpuruntime.gpu_runtime.interface import Buffer, Call, GpuRuntime, Memory, Queue, Recorded, Slot
from cpuruntime.program.plan.arena import assign_slots, plan_arena
from cpuruntime.program.plan.storage import Place, Storage


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


class Program:
    """What a graph of known shapes became. Immutable.

    Args:
        recipe: is used up: its constants go to the device.
        prelude: goes before the text of each kernel.
        is_low: whether the threads that build kernels leave processors to others.

    Attributes:
        name: the model's.
        inputs, outputs: the ports in the graph's order.
        arena_size, unshared_size: bytes of a stream's memory, and what it would be if nothing were shared.

    Raises:
        UnsupportedError: a kernel does not build; the message names the node.
        OutOfMemoryError: the device has not the memory for the constants.
    """

    def __init__(
        self, runtime: GpuRuntime, recipe: Recipe, prelude: str, modules: Modules, constants: Constants, is_low: bool
    ) -> None:
        self.runtime, self.prelude, self._recipe = runtime, prelude, recipe
        self.name, self.steps, self.launches = recipe.name, recipe.steps, recipe.launches
        self.inputs, self.outputs, self.same = recipe.inputs, recipe.outputs, recipe.same
        texts: dict[str, str] = {}
        for launch, place in zip(self.launches, recipe.places):
            where = self.steps[place].where if place >= 0 else "its outputs"
            texts.setdefault(prelude + launch.kernel.text, f"Model '{printable(recipe.name)}', {where}")
        self.modules = modules.build(runtime, texts, is_low)
        self._constants = {key: constants.memory(array) for key, array in recipe.constants.items()}
        recipe.constants = {}
        self.constants_size = sum({id(one): one.nbytes for one in self._constants.values()}.values())
        ports = [*self.inputs, *self.outputs]
        self._ports = {port.key: index for index, port in reversed([*enumerate(ports)])}
        self._plan()

    def stored(self) -> Exported:
        """What `Recipe.restored` takes, with the constants as they are on the device."""
        arrays = {key: np.empty(memory.nbytes, np.uint8) for key, memory in self._constants.items()}
        for key, array in arrays.items():
            self.runtime.read(self._constants[key], array)
        return self._recipe.stored(arrays)

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
        """The launches with memory of their own, for the submissions of one queue. Raises OutOfMemoryError.

        Slots are the ports, counted through inputs and outputs.
        """
        memories = {**self.allocate(), **self._constants}

        def bound(argument: Buffer | int | float) -> Memory | Slot | int | float:
            if not isinstance(argument, Buffer):
                return argument
            port = self._ports.get(argument.key)
            return memories[argument.key] if port is None else Slot(port)

        return queue.record([
            Call(
                self.modules[self.prelude + launch.kernel.text], launch.kernel.entry,
                tuple(map(bound, launch.arguments)), launch.global_size, launch.local_size,
            )
            for launch in self.launches
        ])  # fmt: skip

    def names(self, place: int) -> str:
        """The kernels that compute a step."""
        entries = (one.kernel.entry for one, of in zip(self.launches, self._recipe.places) if of == place)
        return ", ".join(dict.fromkeys(entries)) or "nothing: the memory serves as it is"

    def times(self, launches: list[int]) -> Mapping[int, int]:
        """Nanoseconds of each step, by its place, from those of launches."""
        found: dict[int, int] = {}
        for place, taken in zip(self._recipe.places, launches):
            if place >= 0:
                found[place] = found.get(place, 0) + taken
        return found
