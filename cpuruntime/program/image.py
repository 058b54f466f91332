"""The image of a program: plain data without addresses.

An image is one block of words: the table of steps, (kernel, argument block) each, then the argument blocks. Addresses
are zero in it; each has a row in the relocation table: `offset` bytes from the start of `symbol`, the number of a
kernel, constant, input or output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from cpuruntime.compiler import build
from cpuruntime.errors import ModelError
from cpuruntime.program.plan.storage import Place
from cpuruntime.records import entity

RELOCATION = np.dtype([("where", "i8"), ("kind", "i8"), ("symbol", "i8"), ("offset", "i8")])
"""`where` is the number of the word, `kind` a `Place`."""


Ports = tuple[tuple[tuple[int, ...], np.dtype], ...]
"""(shape, dtype) of each input or output."""


def port(place: Place, index: int) -> int:
    """The number of an input or output among both."""
    return 2 * index + (place is Place.OUTPUT)


class Linkable(ABC):
    """What can be linked any number of times.

    Attributes:
        size: words that it takes.
        steps: rows of the table of steps, the first 2 * `steps` words.
        arena_size: bytes.
        faults: the message of each fault that kernels can report.
    """

    size: int
    steps: int
    arena_size: int
    faults: tuple[str, ...]
    inputs: Ports
    outputs: Ports

    @cached_property
    def output_shapes(self) -> Sequence[tuple[int, ...]]:
        """Those of the outputs."""
        return [shape for shape, _ in self.outputs]

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory, without weights."""

    @abstractmethod
    def link(self, words: np.ndarray, own: dict[Place, int]) -> None:
        """Writes the program to `words`; `own` are the addresses of the arena, of the faults and of the words."""

    @abstractmethod
    def places(self, words: memoryview, number: int) -> Sequence[tuple[int, int]]:
        """(word, offset) of each address in an input or output, given as a `port`, of words that are linked."""

    def bind(self, words: memoryview, number: int, address: int) -> None:
        """Writes the addresses in an input or output."""
        for word, offset in self.places(words, number):
            words[word] = address + offset


@entity
class Image(Linkable):
    """A program that can be stored, moved and linked any number of times.

    Attributes:
        words: int64, with zeros where addresses will be.
        relocations: the addresses, as records of `RELOCATION`.
        kernels: symbols of machine code.
        weights: uint8 memory, each 64-byte aligned.
    """

    words: np.ndarray
    relocations: np.ndarray
    steps: int
    kernels: tuple[str, ...]
    weights: tuple[np.ndarray, ...]
    arena_size: int
    faults: tuple[str, ...]
    inputs: Ports
    outputs: Ports

    @property
    def size(self) -> int:  # type: ignore[override]
        return len(self.words)

    @property
    def nbytes(self) -> int:
        return self.words.nbytes + self.relocations.nbytes

    @cached_property
    def kernel_addresses(self) -> np.ndarray:
        """ModelError when the machine code of a kernel is neither loaded nor in the cache."""
        return np.array([code_of(symbol) for symbol in self.kernels], np.int64)

    @cached_property
    def weight_addresses(self) -> np.ndarray:
        """Where the weights lie."""
        return np.array([weights.ctypes.data for weights in self.weights], np.int64)

    @cached_property
    def bindings(self) -> dict[int, list[tuple[int, int]]]:
        """(word, offset) of each address in an input or output, by its `port`: written before an inference."""
        found: dict[int, list[tuple[int, int]]] = {}
        rows = self.relocations[np.isin(self.relocations["kind"], (Place.INPUT, Place.OUTPUT))]
        for where, kind, symbol, offset in rows.tolist():
            found.setdefault(port(Place(kind), symbol), []).append((where, offset))
        return found

    def link(self, words: np.ndarray, own: dict[Place, int]) -> None:
        words[:] = self.words
        addresses = {place: np.array([address], np.int64) for place, address in own.items()}
        addresses |= {Place.KERNEL: self.kernel_addresses, Place.FIXED: self.weight_addresses}
        for kind, memory in addresses.items():
            rows = self.relocations[self.relocations["kind"] == kind]
            words[rows["where"]] = memory[rows["symbol"]] + rows["offset"]

    def places(self, words: memoryview, number: int) -> Sequence[tuple[int, int]]:
        return self.bindings.get(number, ())


def code_of(symbol: str) -> int:
    """The address of a kernel's machine code; ModelError when that is neither loaded nor in the cache."""
    address = build.find(symbol)
    if address is None:
        raise ModelError(
            f"kernel {symbol} of the program is not in the cache of compiled kernels; compile the model again."
        )
    return address
