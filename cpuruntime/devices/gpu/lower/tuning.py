"""Tunings: how the work of a kernel is cut, for GPUs and for drivers that run on a processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cpuruntime.devices.gpu.kernels.prelude import VECTOR
from cpuruntime.devices.gpu.kernels.product import Tile
from cpuruntime.gpu_runtime.interface import Facts
from cpuruntime.graph import Node

Choose = Callable[[Node, str, str, tuple[Any, ...]], Any]
"""Of the ways to compute the part of a node that the second text names, with floats of the type of the first: one."""


def first(node: Node, precision: str, what: str, ways: tuple[Any, ...]) -> Any:
    """The way that is best by rule."""
    return ways[0]


@dataclass(frozen=True)
class Tuning:
    """How work is cut.

    Attributes:
        is_local: whether products share tiles in local memory, as GPUs want it.
        group: work items of a group where each has an element.
        row_group: work items that share a row.
        choose: picks among candidates.
    """

    is_local: bool
    group: int
    row_group: int
    choose: Choose = first

    def tiles(self, rows: int, columns: int) -> tuple[Tile, ...]:
        """The tiles that a product of so many rows and columns may have, the best by rule first."""
        if self.is_local:
            small = Tile(2, 2, 16), Tile(4, 4, 16)
            return small if rows <= 32 or columns <= 32 else small[::-1]
        vectors = 1 if columns <= VECTOR else 2
        if rows < 4:
            return (Tile(rows, VECTOR * vectors),)
        waste = {count: -rows % count for count in (6, 4)}
        counts = sorted(waste, key=lambda count: (waste[count] * 8 > rows, -count))
        return tuple(Tile(count, VECTOR * vectors) for count in counts)


GPU_SHAPED = Tuning(is_local=True, group=128, row_group=64)
CPU_SHAPED = Tuning(is_local=False, group=64, row_group=1)


def tuning_for(facts: Facts) -> Tuning:
    """The tuning of a device."""
    return CPU_SHAPED if facts.kind == "cpu" else GPU_SHAPED
