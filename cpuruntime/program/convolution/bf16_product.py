"""Products of bf16 numbers: the packing of their right sides, the choice of tiles, and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, bf16_products, bf16_tiles
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Extent, Type
from cpuruntime.ops.bf16_product import SIZE, STEP, TILE_NUMBERS, bf16_product
from cpuruntime.program.convolution.geometry import FEW_CHANNELS, Geometry
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.plan.candidate import Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.step import KernelChoice
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.bf16_tiles import Bf16Tiling, rank_amx_tilings, rank_bf16_tilings
from cpuruntime.program.tuning.tiles import Grid

BF16 = "bf16"
"""The method of a convolution that multiplies bf16 numbers."""

LAYOUTS = {"rows": "plain", "blocks": "blocked", "pixels": "interleaved -> blocked"}


class Matrix(NamedTuple):
    """A right side [inner, columns] of bf16 numbers, which `make` gives; `key` is that of its content."""

    inner: int
    columns: int
    key: Hashable
    make: Callable[[], np.ndarray]

    def padded(self, by_tiles: bool = False) -> int:
        """Numbers of a pixel in a panel."""
        step = TILE_NUMBERS if by_tiles else STEP
        return -(-self.inner // step) * step

    @property
    def blocks(self) -> int:
        return -(-self.columns // LANES)


def emit_bf16_product(
    emitter: Emitter, right: Matrix, source: str, fields: dict[str, Any], activation: str, flops: Extent,
    notes: str = "",
) -> None:  # fmt: skip
    """The product of the pixels of a `source`, see `bf16_product`; `fields` has all but what follows from the tile."""

    def kernel_of(tiling: Bf16Tiling) -> Kernel | KernelChoice:
        if tiling.by_tiles:
            return bf16_product(tiling.rows, tiling.columns, source, activation, True)
        return tiling.fit(fields["width"], lambda rows: bf16_product(rows, tiling.columns, source, activation))

    def emit(emitter: Emitter, tiling: Bf16Tiling) -> None:
        padded = right.padded(tiling.by_tiles)
        scratch = (int(tiling.chunk) * tiling.rows * padded + LANES) * SIZE
        emitter.emit(
            kernel_of(tiling), LAYOUTS[source], flops=flops, notes=", ".join(filter(None, (str(tiling), notes))),
            **fields, inner=right.inner, padded=padded, weights=_pack(emitter, right, tiling.columns, padded),
            chunk=tiling.chunk, **emitter.thread_memory(scratch),
        )  # fmt: skip

    def is_ready(tiling: Bf16Tiling) -> bool:
        return emitter.weights.is_packed((right.key, tiling.columns, right.padded(tiling.by_tiles)))

    lines, pixels = fields["height"], fields["width"]
    grid = Grid(lines, pixels, right.blocks, right.padded() // 2, lines * pixels * right.padded() * SIZE)
    query = Query(("bf16_product",), (source, grid), residual="residual" in fields, activation=activation)
    rank = rank_bf16_tilings
    if bf16_tiles():  # which add up in another order, so results must not depend on the threads of a stream
        methods = *rank_bf16_tilings(grid, 1)[:1], *rank_amx_tilings(grid, 1)
        rank = rank_amx_tilings if emitter.fastest_method(query, methods, emit).by_tiles else rank_bf16_tilings
    emitter.emit_fastest(query, rank(grid, emitter.threads), emit, is_ready)


def _pack(emitter: Emitter, right: Matrix, columns: int, padded: int) -> Address:
    """The right side as [tile][pair][columns][LANES][2]; numbers beyond it are zeros."""
    starts = tile_starts(right.blocks, columns)
    shape = (len(starts), padded // 2, columns * LANES, 2)

    def fill(memory: np.ndarray) -> None:
        numbers = right.make().view(np.uint16)
        for panel, start in zip(memory.view(np.uint16).reshape(shape), starts):
            some = numbers[:, start * LANES : (start + columns) * LANES]
            for odd in range(2):
                part = some[odd::2]
                panel[: len(part), : part.shape[1], odd] = part

    size = len(starts) * columns * VECTOR_BYTES * padded // 2
    return emitter.weights.pack((right.key, columns, padded), size, fill)


def suits_bf16(g: Geometry) -> bool:
    """Whether a convolution that may round to bf16 has a kernel for that."""
    return bool(bf16_products()) and g.group == 1 and (g.in_channels > FEW_CHANNELS or g.dilation_width == 1)


def emit_bf16_convolution(
    emitter: Emitter, g: Geometry, weights: np.ndarray, fields: dict[str, Any], activation: str
) -> None:
    """A dense convolution of an image in blocks, or of pixels where `fields` have no distance of blocks.

    `fields` has tensors, bias, limits, sizes of the image and parameters.
    """
    in_blocks, blocks = g.blocks
    source = "blocks" if "source_block" in fields else "pixels"
    lanes = in_blocks * LANES if source == "blocks" else g.in_channels
    pixel = VECTOR_BYTES if source == "blocks" else 4 * lanes

    def make() -> np.ndarray:
        dense = np.zeros((g.taps, lanes, g.channels), Type.bf16.to_dtype())
        dense[:, : g.in_channels] = np.asarray(weights).reshape(g.channels, g.in_channels, g.taps).transpose(2, 1, 0)
        return dense.reshape(-1, g.channels)

    right = Matrix(g.taps * lanes, g.channels, (emitter.weights.identity(weights), BF16, source), make)
    fields = fields | g.window_fields() | dict(
        source_step=g.stride_width * pixel, source_column=g.dilation_width * pixel, in_blocks=in_blocks,
        run=g.kernel_width * lanes, target_pixel=VECTOR_BYTES, residual_pixel=VECTOR_BYTES, columns=blocks * LANES,
    )  # fmt: skip
    emit_bf16_product(emitter, right, source, fields, activation, g.flops)
