"""Linking: the words of a program at a place in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from cpuruntime.host.memory import ALIGNMENT, allocate
from cpuruntime.program.image import Image, Linkable, port
from cpuruntime.program.plan.storage import Place
from cpuruntime.streams.native import runner

if TYPE_CHECKING:
    from cpuruntime.program.frame import Filled


class Linked:
    """An image at a place: its own words, arena and fault words; used by one inference at a time.

    Raises ModelError when the machine code of a kernel is neither loaded nor in the cache.
    """

    def __init__(self, image: Linkable, arena: np.ndarray | None = None) -> None:
        self.image = image
        self.arena = allocate(max(image.arena_size, ALIGNMENT)) if arena is None else arena
        self.faults = np.zeros(max(len(image.faults), 1), np.int64)
        self.words = allocate(8 * image.size).view(np.int64)
        memories = {Place.ARENA: self.arena, Place.FAULT: self.faults, Place.IMAGE: self.words}
        self._addresses = {place: memory.ctypes.data for place, memory in memories.items()}
        self._view, self._bytes = self.words.data, self.words.view(np.uint8).data
        self._bound: dict[int, int] = {}
        image.link(self.words, self._addresses)

    def fill(self, image: Filled, ports: memoryview | None) -> None:
        """Makes the program another of the same frame; what is bound stays so, unless `ports` are to be: `bind_all`."""
        if ports is not None:
            self._bound.clear()
            image.set_ports(self._view, ports)
        image.fill(self._bytes, self._addresses[Place.IMAGE])
        self.image = image

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
        number = port(place, index)
        if self._bound.get(number) != address:
            self._bind(number, address)

    def _bind(self, number: int, address: int) -> None:
        self._bound[number] = 0  # until all is done: an interrupt may come in between
        self.image.bind(self._view, number, address)
        self._bound[number] = address

    def bind_all(self, ports: memoryview) -> None:
        """Binds all inputs and outputs, of which the addresses are in the order of their `port`: int64."""
        image = self.image
        if not isinstance(image, Image):
            self._bound.clear()
            filled = cast("Filled", image)
            filled.set_ports(self._view, ports)
            filled.fill_entries(self._addresses[Place.IMAGE])
            return
        for number, address in enumerate(ports):
            if self._bound.get(number) != address:
                self._bind(number, address)

    def unbind(self) -> None:
        """Has everything bound anew when it is bound next, since words change natively."""
        self._bound.clear()
