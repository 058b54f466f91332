"""The frame of a template: the words of its programs without what depends on sizes, which is filled in natively."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.host.memory import allocate
from cpuruntime.program import native
from cpuruntime.program.assembly import WORK_PER_NANOSECOND
from cpuruntime.program.image import Linkable, Ports
from cpuruntime.program.plan.storage import Place
from cpuruntime.streams.memory import holding_the_gil

ZERO, SHARED, PORTS = 0, 1, 5
OWN = {Place.ARENA: 2, Place.FAULT: 3, Place.IMAGE: 4}
"""Words of the tail: 0, the number of shared steps, an instance's own addresses, those of inputs and outputs by `port`;
then come those of tables.
"""


@dataclass(eq=False)
class Frame:
    """What the programs of a template have in common.

    Behind the words of a program lies a tail, of what `native.fill` reads: the words above, then the registers of the
    formulas behind all `words`.

    Attributes:
        steps: how many.
        work: the register of what they take on one thread, with `assembly.WORK_PER_NANOSECOND`.
        faults: the pieces of each message, a register for a number.
        ports: the registers of the shape of each input and each output, and its type.
        tables: what makes them, and the registers of the numbers that it takes.
        tail, first_table: words where the tail begins, and the addresses of tables in it.
        entries: int64[...][4], as `native.FILLING` has them.
        weights: memory that is referred to.
        kernels: the words in which the address of a kernel is, and
        fixed: the entries in which that of weights is, given by their number.
    """

    steps: int
    work: int
    faults: list[list[str | int]]
    ports: list[list[tuple[list[int], np.dtype]]]
    tables: list[tuple[Callable[..., np.ndarray], list[int]]]
    tail: int
    first_table: int
    words: np.ndarray
    entries: np.ndarray
    weights: list[np.ndarray]
    kernels: list[tuple[int, Kernel]]
    fixed: list[tuple[int, int]]

    def __post_init__(self) -> None:
        self.registers = len(self.words)
        self.bindings: dict[int, list[tuple[int, int, int]]] = {}
        for word, base, register, offset in (self.entries // [8, 8, 8, 1]).tolist():
            if self.tail + PORTS <= base < self.first_table:
                self.bindings.setdefault(base - self.tail - PORTS, []).append((word, register, offset))
        block = self._block = np.zeros(1, native.FILLING)
        block["entries"], block["end"] = self.entries.ctypes.data, self.entries.ctypes.data + self.entries.nbytes
        block["steps"] = self.steps
        self.address: int = block.ctypes.data
        self.fill = holding_the_gil(native.fill)


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
        self.output_shapes = [self._numbers(rows) for rows, _ in frame.ports[1]]

    def _numbers(self, rows: Sequence[int]) -> tuple[int, ...]:
        return tuple([self.numbers[row] for row in rows])

    @cached_property
    def faults(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple("".join(p if isinstance(p, str) else str(self.numbers[p]) for p in m) for m in self.frame.faults)

    @cached_property
    def inputs(self) -> Ports:  # type: ignore[override]
        return tuple((self._numbers(rows), dtype) for rows, dtype in self.frame.ports[0])

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
