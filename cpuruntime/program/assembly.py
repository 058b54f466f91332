"""Assembling: from steps to the words of a program, argument blocks and relocations."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Extent, typical
from cpuruntime.host.memory import round_up
from cpuruntime.program.plan.step import KernelChoice, Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.streams.native import runner

# What one thread achieves at least in small steps, and what a step is worth sharing from; measured, roughly.
FLOPS_PER_NANOSECOND, BYTES_PER_NANOSECOND, SMALL_NANOSECONDS = 50, 16, 2000
WORK_PER_NANOSECOND = FLOPS_PER_NANOSECOND * BYTES_PER_NANOSECOND
SMALL_WORK = SMALL_NANOSECONDS * WORK_PER_NANOSECOND
# No step of a node of so many inputs and outputs counts as small: each of its steps would look at all of them.
MANY_VALUES = 1000


class Assembly:
    """Argument blocks and relocations, step by step. `strides` are the bytes of a row of each input and output."""

    def __init__(self, strides: dict[Place, list[int]], start: int) -> None:
        self.relocations: list[tuple[int, int, int, int]] = []
        self.kernels: dict[Kernel, int] = {}
        self.weights: dict[Storage, int] = {}
        self._strides = strides
        self._blocks: list[tuple[int, np.ndarray]] = []
        self._end = start

    def add_step(self, row: int, step: Step, block: int) -> None:
        """Row `row` of the table: the step, with its argument block at byte `block`."""
        self.call(2 * row, step.call)
        self.relocations.append((2 * row + 1, Place.IMAGE, 0, block + runner.ALONE * is_small(step)))

    def add_block(self, step: Step, row: int) -> int:
        """The argument block of a step that works on row `row` of the inputs and outputs; returns its byte offset."""
        dtype, start = step.call.arguments, self._end
        block = np.zeros(1, dtype)
        for name, argument in step.arguments.items():
            word = (start + dtype.fields[name][1]) // 8
            if isinstance(argument, (Kernel, KernelChoice)):
                self.call(word, argument)
            elif isinstance(argument, Address):
                self.add_address(word, argument, row)
            else:
                is_whole = dtype.fields[name][0].base == np.int64
                block[name] = self.number(word, argument) if is_whole else argument
        self._blocks.append((start, block))
        self._end += round_up(dtype.itemsize)
        return start

    def words(self) -> np.ndarray:
        """All bytes so far, as int64."""
        memory = np.zeros(self._end, np.uint8)
        for start, block in self._blocks:
            memory[start : start + block.nbytes] = block.view(np.uint8)
        return memory.view(np.int64)

    def call(self, word: int, kernel: Kernel | KernelChoice) -> None:
        """The kernel at word `word`."""
        assert isinstance(kernel, Kernel)
        self.relocations.append((word, Place.KERNEL, self.kernels.setdefault(kernel, len(self.kernels)), 0))

    def number(self, word: int, argument: Any) -> Any:
        """What an argument from word `word` on, a number or a list of them, is set to."""
        return argument

    def add_address(self, word: int, address: Address, row: int) -> None:
        """The argument of word `word`."""
        self.relocations.append((word, address.storage.place, *self._target(address, row)))

    def _target(self, address: Address, row: int) -> tuple[int, int]:
        """Symbol and offset."""
        storage, offset = address.storage, address.offset
        if storage.place is Place.FIXED:
            return self.weights.setdefault(storage, len(self.weights)), offset
        if storage.place is Place.ARENA:
            return 0, storage.offset + offset
        if storage.place is Place.FAULT:
            return 0, 8 * storage.index + offset
        return storage.index, row * self._strides[storage.place][storage.index] + offset


def is_small(step: Step) -> bool:
    """Whether a step takes about as long as threads need to meet, so that one runs it alone."""
    return typical(work(step)) < SMALL_WORK


def work(step: Step) -> Extent:
    """What a step takes on one thread, with WORK_PER_NANOSECOND.

    An estimate from above: the step may read and write less than its node does, unless it says what.
    """
    if step.moved is not None:
        return step.flops * BYTES_PER_NANOSECOND + step.moved * FLOPS_PER_NANOSECOND
    if len(step.node.inputs) + len(step.node.outputs) > MANY_VALUES:
        return SMALL_WORK
    values = [value for value in (*step.node.inputs, *step.node.outputs) if value is not None]
    if not all(value.is_static for value in values):
        return SMALL_WORK
    return step.flops * BYTES_PER_NANOSECOND + sum(value.nbytes for value in values) * FLOPS_PER_NANOSECOND
