"""Linking: the image of a program, plain data without addresses, and its words at a place in memory.

An image is one block of words: the table of steps, (kernel, argument block) each, then the argument blocks. Addresses
are zero in it; each has a row in the relocation table: `offset` bytes from the start of `symbol`, the number of a
kernel, constant, input or output.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cpuruntime.compiler import build
from cpuruntime.errors import ModelError
from cpuruntime.host.memory import ALIGNMENT, allocate
from cpuruntime.program.plan.storage import Place
from cpuruntime.streams.native import runner

RELOCATION = np.dtype([("where", "i8"), ("kind", "i8"), ("symbol", "i8"), ("offset", "i8")])
"""`where` is the number of the word, `kind` a `Place`."""


@dataclass(frozen=True, eq=False)
class Image:
    """A program that can be stored, moved and linked any number of times.

    Attributes:
        words: int64, with zeros where addresses will be.
        relocations: the addresses, as records of `RELOCATION`.
        steps: rows of the table of steps, the first 2 * `steps` words.
        kernels: symbols of machine code.
        weights: uint8 memory, each 64-byte aligned.
        arena_size: bytes.
        faults: the message of each fault that kernels can report.
        inputs, outputs: (shape, dtype) of each.
    """

    words: np.ndarray
    relocations: np.ndarray
    steps: int
    kernels: tuple[str, ...]
    weights: tuple[np.ndarray, ...]
    arena_size: int
    faults: tuple[str, ...]
    inputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]

    @cached_property
    def rows(self) -> dict[Place, np.ndarray]:
        """The numbers of the relocations by kind."""
        return {kind: np.flatnonzero(self.relocations["kind"] == kind) for kind in Place}

    @cached_property
    def kernel_addresses(self) -> np.ndarray:
        """ModelError when the machine code of a kernel is neither loaded nor in the cache."""
        return np.array([_code(symbol) for symbol in self.kernels], np.int64)

    @cached_property
    def weight_addresses(self) -> np.ndarray:
        """Where the weights lie."""
        return np.array([weights.ctypes.data for weights in self.weights], np.int64)

    @cached_property
    def bindings(self) -> dict[tuple[Place, int], list[tuple[int, int]]]:
        """(word, offset) of each address in an input or output, by place and number: written before an inference."""
        found: dict[tuple[Place, int], list[tuple[int, int]]] = {}
        rows = self.relocations[np.isin(self.relocations["kind"], (Place.INPUT, Place.OUTPUT))]
        for where, kind, symbol, offset in rows.tolist():
            found.setdefault((Place(kind), symbol), []).append((where, offset))
        return found


class Linked:
    """An image at a place: its own words, arena and fault words; used by one inference at a time.

    Raises ModelError when the machine code of a kernel is neither loaded nor in the cache.
    """

    def __init__(self, image: Image, arena: np.ndarray | None = None) -> None:
        self.image = image
        self.arena = allocate(max(image.arena_size, ALIGNMENT)) if arena is None else arena
        self.faults = np.zeros(max(len(image.faults), 1), np.int64)
        self.words = allocate(image.words.nbytes).view(np.int64)
        self.words[:] = image.words
        self._link(Place.KERNEL, image.kernel_addresses)
        self._link(Place.FIXED, image.weight_addresses)
        for place, memory in ((Place.ARENA, self.arena), (Place.FAULT, self.faults), (Place.IMAGE, self.words)):
            self._link(place, np.array([memory.ctypes.data], np.int64))
        self._bound: dict[tuple[Place, int], int] = {}

    def _link(self, kind: Place, addresses: np.ndarray) -> None:
        rows = self.image.relocations[self.image.rows[kind]]
        self.words[rows["where"]] = addresses[rows["symbol"]] + rows["offset"]

    @property
    def table(self) -> np.ndarray:
        """The steps as a `Job` takes them: int64[steps, 2] of kernel and argument block."""
        return self.words[: 2 * self.image.steps].reshape(-1, 2)

    @property
    def blocks(self) -> list[int]:
        """The address of each step's argument block."""
        return (self.table[:, 1] & ~runner.ALONE).tolist()

    def bind(self, place: Place, index: int, address: int) -> None:
        """Points every argument that names input or output `index` at `address`."""
        key = (place, index)
        if self._bound.get(key) != address:
            self._bound[key] = 0  # until all is done: an interrupt may come in between
            for word, offset in self.image.bindings.get(key, ()):
                self.words[word] = address + offset
            self._bound[key] = address


def _code(symbol: str) -> int:
    address = build.find(symbol)
    if address is None:
        raise ModelError(
            f"kernel {symbol} of the program is not in the cache of compiled kernels; compile the model again."
        )
    return address
