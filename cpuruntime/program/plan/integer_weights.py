"""Weights of integer tiles: which kind of tile suits them, and how they are packed.

A pair of products of unsigned by signed bytes leaves 16 bits for some data where its weights add up to more than 128 in
size. That is known here, so nothing saturates at run time: see `Excess`. What is taken off goes to gathered steps, in
which each output picks its own channels, or to extra steps, which all outputs of a vector share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.ops.quantised_product import COLUMN_TILE
from cpuruntime.ops.tiles.integer_shapes import GATHER, PICKS, TILE_BYTES, channels_of
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.packing import copy_into
from cpuruntime.program.plan.storage import Address
from cpuruntime.records import record

PAIR = 128
"""Weights of a pair that add up to more, or to less than its negative, can leave 16 bits with activations up to 255."""

GATHER_COST, LAST_COST = 0.12, 0.3
"""Work of a gathered step, as a share of that of GATHER channels; of one that follows fewer channels."""
NONE = 0x80
"""Picks no byte."""


@record
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


    def split(self, run: int) -> tuple[Excess, np.ndarray, Excess]:
        """What gathered steps take, its places among the bytes of a lane, and what is left for extra steps.

        A step takes what an output has among GATHER channels of a run of `run`, the largest first.
        """
        unit = self.columns // run * -(-run // GATHER) + self.columns % run // GATHER
        size = np.abs(self.values.astype(np.int16))
        order = np.lexsort((-size, unit, self.rows))
        rows, unit, size = self.rows[order], unit[order], size[order] * np.sign(self.values[order]).astype(np.int16)
        at = np.arange(len(order))
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(rows) != 0) | (np.diff(unit) != 0)
        rank = at - np.maximum.accumulate(np.where(first, at, 0))
        fits = rank < PICKS
        for later, earlier in ((2, 1), (3, 0)):  # the ranks that share 16 bits
            fits &= (rank != later) | (np.abs(size + size[at - (later - earlier)]) <= PAIR)
        taken, left = order[fits], order[~fits]
        places = np.array([0, 2, 3, 1])[rank[fits]]
        return self._part(taken), places, self._part(left)

    def _part(self, which: np.ndarray) -> Excess:
        return Excess(self.rows[which], self.columns[which], self.values[which])


def extra_work(excess: Sequence[Excess], weights: Sequence[np.ndarray], run: int) -> tuple[bool, float]:
    """Whether gathered steps pay, and the work of gathered and extra steps as a share of all others."""
    shared = sum(each.share(part) for each, part in zip(excess, weights)) / len(excess)
    if shared < GATHER_COST:
        return False, shared
    left = sum(each.split(run)[2].share(part) for each, part in zip(excess, weights)) / len(excess)
    gathered = left + (GATHER_COST * (run // GATHER) + LAST_COST * (run % GATHER > 0)) * GATHER / run
    return gathered < shared, min(gathered, shared)


class PackedWeights:
    """The weights of one product or one group of a convolution, as tiles of `columns` vectors read them.

    `weights` are int8 or int16 [outputs, reduction], less their zero points; the reduction consists of whole steps.
    `excess` is taken off, if the tile needs that; `starts` are the first blocks of the tiles. With `gathered`, the
    channels of a run, there are gathered steps.
    """

    def __init__(
        self, kind: str, weights: np.ndarray, columns: int, starts: Sequence[int], excess: Excess | None,
        gathered: int = 0,
    ) -> None:  # fmt: skip
        self._weights, self._columns, self._starts = weights, columns, starts
        self._steps = weights.shape[1] // channels_of(kind)
        self.blocks = -(-len(weights) // LANES)
        self._excess = excess if kind == "ubs" and excess is not None else None
        self._places: list[np.ndarray] = [np.zeros(0, np.int64)] * self.blocks
        self._extra: list[np.ndarray] = [np.zeros((0, LANES, 4), np.int8)] * self.blocks
        self._main: Any = slice(None)
        self._gathers, self._picks = np.zeros((0, PICKS + 1), int), np.zeros((self.blocks, 0), np.uint8)
        if self._excess is not None:
            rest = self._excess
            if gathered:
                rest = self._find_gathered_steps(self._excess, gathered)
            self._find_extra_steps(rest)
        self._own = (self._steps + self._gathers.size) * columns * VECTOR_BYTES
        self._tiles = [range(start, start + columns) for start in starts]
        sizes = [self._own + sum(len(self._places[block]) for block in tile) * VECTOR_BYTES for tile in self._tiles]
        self._offsets = np.cumsum([0, *sizes])

    def _find_gathered_steps(self, excess: Excess, run: int) -> Excess:
        """Lays out the gathered steps; returns what extra steps have to take."""
        groups, every = run // 4, GATHER // 4
        runs, count = self._steps // groups, -(-groups // every)
        starts, group, block = np.arange(runs) * (groups + count * (PICKS + 1)), np.arange(groups), np.arange(count)
        self._main = np.add.outer(starts, group + group // every * (PICKS + 1)).reshape(-1)
        behind = np.minimum(every * (block + 1), groups) + block * (PICKS + 1)
        self._gathers = np.add.outer(np.add.outer(starts, behind).reshape(-1), np.arange(PICKS + 1))
        taken, places, rest = excess.split(run)
        picks = np.full((self.blocks, runs * count, PICKS + 1, LANES, 4), NONE, np.uint8)
        picks[:, :, PICKS] = 0
        y, lane = np.divmod(taken.rows, LANES)
        channel = taken.columns % run
        unit = taken.columns // run * count + channel // GATHER
        picks[y, unit, channel % GATHER // 16, lane, places] = channel % 16
        picks[y, unit, PICKS, lane, places] = taken.values.view(np.uint8)
        self._picks = picks
        return rest

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
            panel = memory[at : at + self._own].view(np.int32).reshape(-1, self._columns, LANES)
            part = units[tile.start * LANES : tile.stop * LANES].reshape(self._columns, LANES, self._steps)
            if self._gathers.size:
                panel[self._main] = part.transpose(2, 0, 1)
                picks = self._picks[tile.start : tile.stop].view(np.int32)[..., 0]
                panel[self._gathers] = picks.transpose(1, 2, 0, 3)
            else:
                copy_into(panel, part.transpose(2, 0, 1))
            at += self._own
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


def whole_tiles(weights: np.ndarray, run: int) -> np.ndarray:
    """Weights [..., reduction] whose runs are padded with zeros to what a tile register holds of a row."""
    runs = weights.reshape(*weights.shape[:-1], -1, run)
    padding = [*[(0, 0)] * (runs.ndim - 1), (0, -run % TILE_BYTES)]
    return np.pad(runs, padding).reshape(*weights.shape[:-1], -1)


def extra_steps(emitter: Emitter, extras: list[int], reduction: tuple[int, int, int], walk: tuple[Any, Any]) -> Address:
    """The table of extra steps: their places in a `reduction` of [height][width][run], by its panel's strides."""
    numbers = np.array(extras or [0], np.int64)
    y, x, channel = np.unravel_index(np.where(numbers < 0, -1 - numbers, 0), reduction)

    def make(row: int, column: int) -> np.ndarray:
        return np.where(numbers < 0, y * row + x * column + channel, numbers)

    return emitter.table(make, *walk)
