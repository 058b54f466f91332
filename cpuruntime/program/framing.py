"""Framing: from steps in which numbers may be sizes to the frame of a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Size, typical
from cpuruntime.host.memory import round_up
from cpuruntime.program.assembly import SMALL_WORK, Assembly, work
from cpuruntime.program.formulas import Formulas
from cpuruntime.program.frame import OWN, PORTS, ZERO, Frame
from cpuruntime.program.image import port
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import KernelChoice, Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.streams.native import runner

NONE = -1
"""In place of a register: none is added."""


def frame_of(steps: Sequence[Step], planner: Planner, formulas: Formulas, slots: dict[Storage, int]) -> Frame:
    """The frame of the steps of a planner; `slots` are the registers of where storages lie in the arena."""
    faults = [[p if isinstance(p, str) else formulas.row(p) for p in message] for message in planner.faults]
    graph_ports = planner.graph.inputs, planner.graph.outputs
    ports = [[(list(map(formulas.row, v.static_shape)), v.element_type.to_dtype()) for v in p] for p in graph_ports]
    total = formulas.row(sum(map(work, steps)))
    tables = PORTS + 2 * max(map(len, ports))
    formed = _Formed(formulas, slots, tables, round_up(16 * len(steps)))
    for index, step in enumerate(steps):
        formed.add_step(index, step, formed.add_block(step, 0))
    made = [(make, list(map(formulas.row, numbers))) for make, numbers in formed.tables.values()]
    words = formed.words()
    tail = len(words)
    registers = tail + tables + len(made)
    words = np.concatenate([words, np.zeros(registers - tail, np.int64)])
    for word, kernel in formed.own_kernels:
        words[word] = kernel.address
    rows = [
        (word, tail + base, tail + ZERO if row == NONE else registers + row, number)
        for word, base, row, number in formed.entries
    ]
    entries = np.array(rows, np.int64).reshape(-1, 4) * [8, 8, 8, 1]
    weights = [storage.owner for storage in formed.weights if storage.owner is not None]
    return Frame(
        len(steps), total, faults, ports, made, tail, tail + tables, words, entries, weights, formed.own_kernels,
        formed.fixed,
    )  # fmt: skip


class _Formed(Assembly):
    """Blocks with places to fill in.

    `entries` are (word, word of the tail, row of the formulas, number) whose sum goes to the word; `own_kernels` and
    `fixed` are those of a `Frame`. Addresses of tables are in the tail from word `first_table` on.
    """

    def __init__(self, formulas: Formulas, slots: dict[Storage, int], first_table: int, start: int) -> None:
        super().__init__({}, start)
        self.entries: list[tuple[int, int, int, int]] = []
        self.own_kernels: list[tuple[int, Kernel]] = []
        self.fixed: list[tuple[int, int]] = []
        self.tables: dict[Storage, Any] = {}
        self._formulas, self._slots, self._first_table = formulas, slots, first_table

    def add_step(self, row: int, step: Step, block: int) -> None:
        self.call(2 * row, step.call)
        small = self._formulas.below(work(step), SMALL_WORK)
        assert runner.ALONE == 1
        self.entries.append((2 * row + 1, OWN[Place.IMAGE], small, block))

    def call(self, word: int, kernel: Kernel | KernelChoice) -> None:
        if isinstance(kernel, Kernel):
            self.own_kernels.append((word, kernel))
        else:
            self.entries.append((word, ZERO, self._formulas.choice(kernel), 0))

    def number(self, word: int, argument: Any) -> Any:
        if isinstance(argument, Size):
            self.entries.append((word, ZERO, self._formulas.row(argument), 0))
        elif isinstance(argument, (list, tuple)):
            return [self.number(word + index, each) for index, each in enumerate(argument)]
        return typical(argument)

    def add_address(self, word: int, address: Address, row: int) -> None:
        storage, offset, register = address.storage, address.offset, NONE
        if isinstance(offset, Size):
            offset, register = 0, self._formulas.row(offset)
        if storage.place is Place.ARENA:
            place = self._slots[storage]
            register = place if register == NONE else self._formulas.sum(place, register)
            self.entries.append((word, OWN[Place.ARENA], register, offset))
        elif storage.place is Place.FAULT:
            self.entries.append((word, OWN[Place.FAULT], register, 8 * storage.index + offset))
        elif storage.place is not Place.FIXED:
            self.entries.append((word, PORTS + port(storage.place, storage.index), register, offset))
        elif storage.table is not None:
            self.tables.setdefault(storage, storage.table)
            self.entries.append((word, self._first_table + list(self.tables).index(storage), register, offset))
        else:
            self.fixed.append((len(self.entries), self.weights.setdefault(storage, len(self.weights))))
            assert storage.owner is not None
            self.entries.append((word, ZERO, register, storage.owner.ctypes.data + offset))
