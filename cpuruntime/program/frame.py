"""The frame of a template: the words of its programs without what depends on sizes, which is filled in natively."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Size, typical
from cpuruntime.host.memory import allocate, round_up
from cpuruntime.program import native
from cpuruntime.program.assembly import SMALL_WORK, WORK_PER_NANOSECOND, Assembly, work
from cpuruntime.program.formulas import Formulas
from cpuruntime.program.image import Linkable, Ports, port
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import KernelChoice, Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.streams.memory import holding_the_gil
from cpuruntime.streams.native import runner

ZERO, SHARED, PORTS = 0, 1, 5
OWN = {Place.ARENA: 2, Place.FAULT: 3, Place.IMAGE: 4}
"""Words of the tail: 0, the number of shared steps, an instance's own addresses, those of inputs and outputs by `port`;
then come those of tables.
"""

NONE = -1
"""In place of a register: none is added."""


class Frame:
    """What the programs of a template have in common.

    Behind the words of a program lies a tail, of what `native.fill` reads: the words above, then the registers of the
    formulas from word `registers` on.
    """

    def __init__(self, steps: Sequence[Step], planner: Planner, formulas: Formulas, slots: dict[Storage, int]) -> None:
        self.steps = len(steps)
        self.work = formulas.row(sum(map(work, steps)))
        self.faults = [[p if isinstance(p, str) else formulas.row(p) for p in message] for message in planner.faults]
        ports = planner.graph.inputs, planner.graph.outputs
        self.ports = [[(list(map(formulas.row, v.static_shape)), v.element_type.to_dtype()) for v in p] for p in ports]
        tables = PORTS + 2 * max(map(len, ports))
        formed = _Formed(formulas, slots, tables, round_up(16 * len(steps)))
        for index, step in enumerate(steps):
            formed.add_step(index, step, formed.add_block(step, 0))
        self.tables = [(make, list(map(formulas.row, numbers))) for make, numbers in formed.tables.values()]
        words = formed.words()
        self.tail, self.first_table = len(words), len(words) + tables
        self.registers = self.first_table + len(self.tables)
        self.words = np.concatenate([words, np.zeros(self.registers - self.tail, np.int64)])
        for word, number in formed.constants:
            self.words[word] = number
        entries = [(word, self.tail + base, self._register(row), n) for word, base, row, n in formed.entries]
        self.bindings: dict[int, list[tuple[int, int, int]]] = {}
        for word, base, register, offset in entries:
            if self.tail + PORTS <= base < self.first_table:
                self.bindings.setdefault(base - self.tail - PORTS, []).append((word, register, offset))
        table = np.array(entries, np.int64).reshape(-1, 4) * [8, 8, 8, 1]
        block = np.zeros(1, native.FILLING)
        block["entries"], block["end"] = table.ctypes.data, table.ctypes.data + table.nbytes
        block["steps"] = self.steps
        self.address: int = block.ctypes.data
        self.fill = holding_the_gil(native.fill)
        self._memory = block, table, [storage.owner for storage in formed.weights]

    def _register(self, row: int) -> int:
        return self.tail + ZERO if row == NONE else self.registers + row


class Filled(Linkable):
    """The programs' image at some sizes. `numbers` are the registers; memory at `arena_size` bytes."""

    def __init__(self, frame: Frame, values: bytes, arena_size: int) -> None:
        self.frame = frame
        self.numbers = memoryview(values).cast("q")
        self.arena_size = self.numbers[arena_size]
        self.size = frame.registers + len(self.numbers)
        self.steps = frame.steps
        self.tables = [_table(make(*self._numbers(rows))) for make, rows in frame.tables] if frame.tables else ()
        self._values = values

    def _numbers(self, rows: Sequence[int]) -> tuple[int, ...]:
        return tuple([self.numbers[row] for row in rows])

    @cached_property
    def faults(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple("".join(p if isinstance(p, str) else str(self.numbers[p]) for p in m) for m in self.frame.faults)

    @cached_property
    def inputs(self) -> Ports:  # type: ignore[override]
        return tuple((self._numbers(rows), dtype) for rows, dtype in self.frame.ports[0])

    @cached_property
    def output_shapes(self) -> Sequence[tuple[int, ...]]:
        return [self._numbers(rows) for rows, _ in self.frame.ports[1]]

    @cached_property
    def outputs(self) -> Ports:  # type: ignore[override]
        return tuple((self._numbers(rows), dtype) for rows, dtype in self.frame.ports[1])

    @property
    def nbytes(self) -> int:
        return len(self._values) + sum(table.nbytes for table in self.tables)

    @property
    def nanoseconds(self) -> int:
        """What it takes on one thread, roughly."""
        return self.numbers[self.frame.work] // WORK_PER_NANOSECOND

    def link(self, words: np.ndarray, own: dict[Place, int]) -> None:
        frame = self.frame
        words[: frame.registers] = frame.words
        for place, index in OWN.items():
            words[frame.tail + index] = own[place]
        self.fill(words.view(np.uint8).data, own[Place.IMAGE])

    def fill(self, memory: memoryview, address: int) -> None:
        """Writes all that depends on sizes to words of the frame at an address; what is bound stays so."""
        frame = self.frame
        memory[8 * frame.registers :] = self._values
        for index, table in enumerate(self.tables, start=frame.first_table):
            memory[8 * index : 8 * index + 8] = table.ctypes.data.to_bytes(8, "little")
        self.fill_entries(address)

    def set_ports(self, words: memoryview, ports: memoryview) -> None:
        """Notes the addresses of all inputs and outputs, in the order of their `port`, for `fill_entries`."""
        words[self.frame.tail + PORTS : self.frame.first_table] = ports

    def fill_entries(self, address: int) -> None:
        """Writes the sums of what was noted to words of the frame at an address, natively."""
        frame = self.frame
        frame.fill(frame.address, address, address + 8 * (frame.tail + SHARED))

    def shared(self, words: memoryview) -> int:
        """How many steps there are in filled words up to the last one for several threads."""
        return words[self.frame.tail + SHARED]

    def places(self, words: memoryview, number: int) -> Sequence[tuple[int, int]]:
        return [(word, words[register] + offset) for word, register, offset in self.frame.bindings.get(number, ())]

    def bind(self, words: memoryview, number: int, address: int) -> None:
        words[self.frame.tail + PORTS + number] = address
        super().bind(words, number, address)


def _table(made: np.ndarray) -> np.ndarray:
    """The bytes of a table, in aligned memory."""
    content = np.ascontiguousarray(made).reshape(-1).view(np.uint8)
    memory = allocate(content.nbytes)
    memory[:] = content
    return memory


class _Formed(Assembly):
    """Blocks with places to fill in.

    `entries` are (word, word of the tail, row of the formulas, number) whose sum goes to the word; `constants` are
    (word, number), the same for all sizes. Addresses of tables are in the tail from word `first_table` on.
    """

    def __init__(self, formulas: Formulas, slots: dict[Storage, int], first_table: int, start: int) -> None:
        super().__init__({}, start)
        self.entries: list[tuple[int, int, int, int]] = []
        self.constants: list[tuple[int, int]] = []
        self.tables: dict[Storage, Any] = {}
        self._formulas, self._slots, self._first_table = formulas, slots, first_table

    def add_step(self, row: int, step: Step, block: int) -> None:
        self.call(2 * row, step.call)
        small = self._formulas.below(work(step), SMALL_WORK)
        assert runner.ALONE == 1
        self.entries.append((2 * row + 1, OWN[Place.IMAGE], small, block))

    def call(self, word: int, kernel: Kernel | KernelChoice) -> None:
        if isinstance(kernel, Kernel):
            self.constants.append((word, kernel.address))
        else:
            self.entries.append((word, ZERO, self._formulas.row(kernel.address), 0))

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
            self.weights.setdefault(storage, len(self.weights))
            assert storage.owner is not None
            self.entries.append((word, ZERO, register, storage.owner.ctypes.data + offset))
