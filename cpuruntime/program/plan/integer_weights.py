"""Weights of integer tiles: which kind of tile suits them, and how they are packed.

A pair of products of unsigned by signed bytes leaves 16 bits for some data where its weights add up to more than 128 in
size. That is known here, so nothing saturates at run time: see `Excess`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.quantised_product import COLUMN_TILE
from cpuruntime.ops.tiles.integer_shapes import channels_of
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.packing import copy_into
from cpuruntime.program.plan.storage import Address

PAIR = 128
"""Weights of a pair that add up to more, or to less than its negative, can leave 16 bits with activations up to 255."""


@dataclass(frozen=True)
class Excess:
    """What is taken off weights so that no pair of products leaves 16 bits.

    Attributes:
        rows: output channels of the weights that it is taken off.
        columns: their places in the reduction.
        values: what is taken off each.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray) -> Excess:
        """That of int8 weights [outputs, reduction]; pairs are successive places."""
        pairs = weights.reshape(len(weights), -1, 2)
        sums = pairs[..., 0].astype(np.int16) + pairs[..., 1]
        rows, places = np.nonzero(np.abs(sums) > PAIR)
        found, sums = pairs[rows, places].astype(np.int16), sums[rows, places]
        larger = np.abs(found).argmax(1)
        return cls(rows, 2 * places + larger, (sums - np.sign(sums) * PAIR).astype(np.int8))

    def share(self, weights: np.ndarray) -> float:
        """Extra steps for each step of the weights."""
        groups = np.unique(self.rows // LANES * weights.shape[1] + self.columns // 4)
        return groups.size / max(1, weights.size // (4 * LANES))


class PackedWeights:
    """The weights of one product or one group of a convolution, as tiles of `columns` vectors read them.

    `weights` are int8 or int16 [outputs, reduction], less their zero points; the reduction consists of whole steps.
    `excess` is taken off, if the tile needs that; `starts` are the first blocks of the tiles.
    """

    def __init__(
        self, kind: str, weights: np.ndarray, columns: int, starts: Sequence[int], excess: Excess | None
    ) -> None:
        self._weights, self._columns, self._starts = weights, columns, starts
        self._steps = weights.shape[1] // channels_of(kind)
        self.blocks = -(-len(weights) // LANES)
        self._excess = excess if kind == "ubs" and excess is not None else None
        self._places: list[np.ndarray] = [np.zeros(0, np.int64)] * self.blocks
        self._extra: list[np.ndarray] = [np.zeros((0, LANES, 4), np.int8)] * self.blocks
        if self._excess is not None:
            self._find_extra_steps(self._excess)
        own = self._steps * columns * VECTOR_BYTES
        self._tiles = [range(start, start + columns) for start in starts]
        sizes = [own + sum(len(self._places[block]) for block in tile) * VECTOR_BYTES for tile in self._tiles]
        self._offsets = np.cumsum([0, *sizes])

    def _find_extra_steps(self, excess: Excess) -> None:
        width = self._weights.shape[1]
        keys, inverse = np.unique(excess.rows // LANES * width + excess.columns // 4 * 4, return_inverse=True)
        vectors = np.zeros((len(keys), LANES, 4), np.int8)
        vectors[inverse, excess.rows % LANES, excess.columns % 4] = excess.values
        bounds = np.searchsorted(keys, np.arange(self.blocks + 1) * width)
        for block in range(self.blocks):
            part = slice(bounds[block], bounds[block + 1])
            self._places[block], self._extra[block] = keys[part] - block * width, vectors[part]

    @property
    def nbytes(self) -> int:
        return int(self._offsets[-1])

    def table(self, first_block: int = 0, weights: int = 0, extras: int = 0) -> np.ndarray:
        """The COLUMN_TILE of each tile; blocks, weights and extra steps are counted from these on."""
        table = np.zeros(len(self._starts), COLUMN_TILE)
        lengths = [sum(len(self._places[block]) + 1 for block in tile) for tile in self._tiles]
        table["weights"], table["block"] = weights + self._offsets[:-1], first_block + np.array(self._starts)
        table["extras"] = extras + 8 * np.cumsum([0, *lengths])[:-1]
        return table

    def extras(self) -> list[int]:
        """For each column of each tile the number of its extra steps, and -1 - place for their places."""
        numbers: list[int] = []
        for tile in self._tiles:
            for block in tile:
                numbers += [len(self._places[block]), *(-1 - self._places[block]).tolist()]
        return numbers

    def fill(self, memory: np.ndarray) -> None:
        """Writes the packed weights; `memory` is zeroed bytes."""
        weights = self._weights
        if self._excess is not None:
            weights = weights.copy()
            weights[self._excess.rows, self._excess.columns] -= self._excess.values
        units = np.zeros((self.blocks * LANES, self._steps), np.int32)
        units[: len(weights)] = np.ascontiguousarray(weights).view(np.int32)
        for tile, at in zip(self._tiles, self._offsets):
            own = self._steps * self._columns * VECTOR_BYTES
            panel = memory[at : at + own].view(np.int32).reshape(self._steps, self._columns, LANES)
            part = units[tile.start * LANES : tile.stop * LANES].reshape(self._columns, LANES, self._steps)
            copy_into(panel, part.transpose(2, 0, 1))
            at += own
            for block in tile:
                extra = self._extra[block].reshape(-1).view(np.uint8)
                memory[at : at + extra.size] = extra
                at += extra.size


def less_zeros(weights: np.ndarray, zeros: list[int]) -> np.ndarray:
    """Weights [outputs, ...] less their zero points: int8 where they fit, else int16."""
    if not zeros or not any(zeros):
        return weights if weights.dtype == np.int8 or weights.max(initial=0) > 127 else weights.astype(np.int8)
    numbers = weights.astype(np.int16) - np.array(zeros, np.int16).reshape(-1, *[1] * (weights.ndim - 1))
    fits = numbers.min(initial=0) >= -128 and numbers.max(initial=0) <= 127
    return numbers.astype(np.int8) if fits else numbers


def extra_steps(emitter: Emitter, extras: list[int], reduction: tuple[int, int, int], walk: tuple[Any, Any]) -> Address:
    """The table of extra steps: their places in a `reduction` of [height][width][run], by its panel's strides."""
    numbers = np.array(extras or [0], np.int64)
    y, x, channel = np.unravel_index(np.where(numbers < 0, -1 - numbers, 0), reduction)

    def make(row: int, column: int) -> np.ndarray:
        return np.where(numbers < 0, y * row + x * column + channel, numbers)

    return emitter.table(make, *walk)
