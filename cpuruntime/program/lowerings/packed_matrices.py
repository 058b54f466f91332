"""The constant right sides of matrix products, as they are packed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Deferred
from cpuruntime.ops.matmul import pack_columns, packed_bytes
from cpuruntime.program.plan.packing import Packing, run_kernel
from cpuruntime.records import record

PART = 32 * 2**20
"""Bytes of a right side that are read and packed at a time, where it can be read in parts; arbitrary."""


@record
class MatrixPacking(Packing):
    """All matrices of a right side, in tiles of columns."""

    batch: int
    inner: int
    columns: int
    tile_columns: int

    @property
    def kernels(self) -> Sequence[Kernel]:
        return (pack_columns,)

    def fill(self, memory: np.ndarray, source: Any) -> None:
        sizes = dict(batch=self.batch, inner=self.inner, tile_columns=self.tile_columns)
        size = packed_bytes(self.inner, self.columns, self.tile_columns)
        for first, part in self._parts(source):
            array = part.reshape(self.batch, self.inner, -1)
            strides = dict(zip(("source_batch", "source_row", "source_column"), array.strides))
            target = memory.ctypes.data + first * self.inner * 4
            own = {**sizes, **strides, "columns": array.shape[-1]}
            run_kernel(pack_columns, source=array.ctypes.data, target=target, target_batch=size, **own)

    def _parts(self, source: np.ndarray | Deferred) -> Iterator[tuple[int, np.ndarray]]:
        """The matrices, or groups of columns of at most PART bytes, each with its first one.

        Groups begin with a tile and have at least one, as the tiles of the whole.
        """
        if not isinstance(source, Deferred) or source.columns is None:
            yield 0, np.asarray(source)
            return
        columns, lanes = source.shape[1], self.tile_columns * LANES
        firsts = [*range(0, max(columns - lanes, 0) + 1, max(PART // (4 * self.inner * lanes), 1) * lanes)]
        for first, last in zip(firsts, [*firsts[1:], columns]):
            yield first, source.columns(first, last)


@record
class SumsPacking(Packing):
    """The right sides of Strassen's seven products, each packed as for an ordinary one of these sizes."""

    inner: int
    columns: int
    tile_columns: int

    @property
    def kernels(self) -> Sequence[Kernel]:
        return (pack_columns,)

    def fill(self, memory: np.ndarray, source: Any) -> None:
        inner, columns, plain = self.inner, self.columns, np.asarray(source)
        size = packed_bytes(inner, columns, self.tile_columns)
        b11, b12 = plain[:inner, :columns], plain[:inner, columns:]
        b21, b22 = plain[inner:, :columns], plain[inner:, columns:]
        add, subtract, scratch = np.add, np.subtract, np.empty(b11.shape, plain.dtype)
        sums = (
            (b11, add, b22), (b11,), (b12, subtract, b22), (b21, subtract, b11), (b22,), (b11, add, b12),
            (b21, add, b22),
        )  # fmt: skip
        for index, (side, *rest) in enumerate(sums):
            if rest:
                side = rest[0](side, rest[1], out=scratch)
            run_kernel(
                pack_columns, source=side.ctypes.data, target=memory.ctypes.data + index * size,
                source_row=side.strides[0], source_column=side.strides[1], batch=1, inner=inner, columns=columns,
                tile_columns=self.tile_columns,
            )  # fmt: skip
