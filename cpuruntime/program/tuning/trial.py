"""Trials: the steps of a node, planned apart from the node's program, and timed on memory of the real sizes.

Tensors of the steps lie in one place and stay in the caches as far as they fit there, as in an inference.
Packed weights are read from another place in each call, so that they come from as far away as in an inference: from the
last cache, or from memory when the model's weights are larger. They are random numbers: nothing is packed for a trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Node
from cpuruntime.host.caches import caches
from cpuruntime.host.memory import allocate, round_up
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.program.plan.weights import WeightStore

# How many last-level caches of weights are read before the same ones come again, and bytes of them at most.
FAR_RING, LARGEST_RING = 2, 128 * 2**20


class TrialWeights(WeightStore):
    """Keeps constants, which kernels read as tables; a `Workbench` finds places for packed weights."""

    def identity(self, array: np.ndarray) -> Hashable:
        """Any key: nothing is looked for."""
        return None

    def pack(
        self, key: Hashable, size: int, fill: Callable[[np.ndarray], None], kernels: Sequence[Kernel] = ()
    ) -> Address:
        """Memory without an address, not filled."""
        return Address(Storage(Place.FIXED, size))

    def constant(self, key: Hashable, array: np.ndarray) -> Address:
        """The address of a copy of `array`."""
        memory = allocate(array.nbytes)
        memory[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return Address(Storage(Place.FIXED, memory.size, owner=memory))


def create_trial(node: Node, threads: int) -> Emitter:
    """An emitter of the steps of one node apart from its graph, to be run on a workbench."""
    return Emitter(TrialWeights(), threads, node=node)


def kernels_of(trial: Emitter) -> list[Kernel]:
    """All that the steps call."""
    return [kernel for step in _steps(trial) for kernel in step.kernels]


def _steps(trial: Emitter) -> list[Step]:
    return [step for step in trial.steps if isinstance(step, Step)]


class Workbench:
    """Memory to run trials in, for one thread to use.

    Args:
        far: whether weights come from memory, not from the last cache.
    """

    def __init__(self, far: bool) -> None:
        self._work = allocate(0)
        sizes = caches()
        ring = FAR_RING * sizes.last if far else max(2 * sizes.second, sizes.last // 4)
        self._ring = _filled(min(ring, LARGEST_RING))
        self._next = 0

    def prepare(self, trial: Emitter) -> Callable[[], float]:
        """A function that runs the trial as each of its threads in turn and returns the seconds of the slowest one.

        Compiles the kernels. Trials use the same memory one after the other.
        """
        calls = [_Call(step) for step in _steps(trial)]
        places: dict[Storage, int] = {}
        weights: dict[Storage, None] = {}
        size = 0
        for _, storage, _ in (word for call in calls for word in call.words):
            if storage.place is Place.FIXED:
                weights[storage] = None
            elif storage not in places:
                places[storage] = size
                size += round_up(storage.size)
        if self._work.size < size:
            self._work = _filled(size)
        needed = sum(round_up(storage.size) for storage in weights)
        if self._ring.size < needed:
            self._ring = _filled(needed)

        def run() -> float:
            slowest = 0
            base = self._work.ctypes.data
            addresses = {storage: base + offset for storage, offset in places.items()}
            for thread in range(trial.threads):
                addresses.update((storage, self._take(storage.size)) for storage in weights)
                for call in calls:
                    call.bind(addresses)
                begin = time.thread_time_ns()
                for call in calls:
                    call.entry(call.address, thread, trial.threads)
                slowest = max(slowest, time.thread_time_ns() - begin)
            return slowest * 1e-9

        return run

    def _take(self, size: int) -> int:
        """The address of the next `size` bytes of the ring."""
        if self._next + size > self._ring.size:
            self._next = 0
        at = self._next
        self._next += round_up(size)
        return self._ring.ctypes.data + at


class _Call:
    """A step's argument block, and where memory is named in it."""

    def __init__(self, step: Step) -> None:
        self._block = np.zeros(1, step.kernel.arguments)
        self.words: list[tuple[str, Storage, int]] = []
        self.address = self._block.ctypes.data
        self.entry = step.kernel.entry
        for name, argument in step.arguments.items():
            if isinstance(argument, Kernel):
                self._block[name] = argument.address
            elif not isinstance(argument, Address):
                self._block[name] = argument
            elif argument.storage.owner is not None:
                self._block[name] = argument.storage.owner.ctypes.data + argument.offset
            else:
                self.words.append((name, argument.storage, argument.offset))

    def bind(self, addresses: dict[Storage, int]) -> None:
        """Points the arguments that name memory at it."""
        for name, storage, offset in self.words:
            self._block[name] = addresses[storage] + offset


def _filled(size: int) -> np.ndarray:
    """`size` bytes of random numbers between -1 and 1."""
    memory = allocate(round_up(size))
    floats = memory.view(np.float32)
    numbers = np.random.default_rng(0).uniform(-1, 1, 2**14).astype(np.float32)
    for begin in range(0, floats.size, numbers.size):
        floats[begin : begin + numbers.size] = numbers[: floats.size - begin]
    return memory
