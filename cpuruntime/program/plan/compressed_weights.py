"""Packing of compressed weights for the kernels that read them as they are; see `ops.tiles.compressed_shapes`."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Compressed
from cpuruntime.ops.tiles.compressed_shapes import (
    COLUMNS,
    LARGEST_GROUP,
    has_kind,
    is_integer,
    panel_bytes,
    panels,
    per_word,
    shifts,
)
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.packing import COPIES, copy_into
from cpuruntime.program.plan.storage import Address

WIDTH = COLUMNS * LANES
"""Columns of a panel."""

SMALLEST_GROUP = 16
"""Groups are whole vectors of the rows, for every instruction set."""


def has_kernel(weights: Compressed) -> bool:
    """Whether kernels read these as they are, and not as float32."""
    if weights.shape[1] <= WIDTH - LANES or not has_kind(weights.kind):
        return False
    group = weights.group
    return not is_integer(weights.kind) or (SMALLEST_GROUP <= group <= LARGEST_GROUP and group % SMALLEST_GROUP == 0)


class PackedPanels:
    """The panels of a matrix, its scales and its zero points in memory."""

    def __init__(self, weights: Compressed) -> None:
        self._weights, self._firsts = weights, panels(weights.shape[1])
        inner = weights.shape[0]
        self.inner = -(-inner // weights.group) * weights.group if weights.group else inner
        """Rows of a panel: whole groups."""

    def address(self, emitter: Emitter) -> Address:
        """Of the numbers."""
        size = len(self._firsts) * panel_bytes(self._weights.kind, self.inner)
        return emitter.weights.pack(self._key(emitter, "numbers"), size, self._fill, COPIES)

    def scales(self, emitter: Emitter) -> Address:
        return self._of_groups(emitter, "scales", self._weights.scales)

    def zeros(self, emitter: Emitter) -> Address:
        return self._of_groups(emitter, "zeros", np.asarray(self._weights.zeros))

    def _key(self, emitter: Emitter, part: str) -> Hashable:
        return (emitter.weights.identity(self._weights), "compressed", part)

    def _of_groups(self, emitter: Emitter, part: str, array: np.ndarray) -> Address:
        groups = len(array)

        def fill(memory: np.ndarray) -> None:
            target = memory.view(array.dtype).reshape(len(self._firsts), groups, WIDTH)
            for panel, first in zip(target, self._firsts):
                some = array[:, first * LANES : first * LANES + WIDTH]
                panel[:, : some.shape[1]] = some

        size = len(self._firsts) * groups * WIDTH * array.itemsize
        return emitter.weights.pack(self._key(emitter, part), size, fill)

    def _fill(self, memory: np.ndarray) -> None:
        kind, numbers, size = self._weights.kind, self._weights.numbers, panel_bytes(self._weights.kind, self.inner)
        for index, first in enumerate(self._firsts):
            panel = memory[index * size : (index + 1) * size]
            some = numbers[:, first * LANES : first * LANES + WIDTH]
            if is_integer(kind):
                words = np.zeros((WIDTH, self.inner // per_word(kind)), np.uint32)
                words[: some.shape[1]] = _words(kind, some, self.inner)
                copy_into(panel.view(np.uint32).reshape(-1, WIDTH), words.T)
            else:
                target = panel.view(np.uint16).reshape(-1, WIDTH)
                target[:, : some.shape[1]] = np.asarray(some).view(np.uint16)


def _words(kind: str, numbers: np.ndarray, inner: int) -> np.ndarray:
    """Columns of u8 or u4 as the words of their lanes: [columns][words]."""
    padded = np.zeros((numbers.shape[1], inner), np.uint8)
    padded[:, : len(numbers)] = numbers.T
    words = padded.reshape(len(padded), -1, per_word(kind)).astype(np.uint32)
    return np.bitwise_or.reduce(words << np.array(shifts(kind), np.uint32), axis=2)
