"""The weights of a convolution by Winograd's method, as they are packed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Type
from cpuruntime.ops.winograd import winograd_weights
from cpuruntime.ops.winograd_methods import Method
from cpuruntime.program.convolution.panels import Channels, fill_panel, tile_starts
from cpuruntime.program.plan.packing import COPIES, Packing, run_kernel
from cpuruntime.records import record


@record
class WinogradPacking(Packing):
    """G w G^T as [part][product][column tile][in block][LANES][columns][LANES].

    Those that are rounded lie as [part][product][column tile][in block][LANES / 2][columns][LANES][2].
    `blocks` are the parts, and the blocks of inputs and of outputs of each.
    """

    channels: Channels
    method: Method
    taps: tuple[int, ...]
    blocks: tuple[int, int, int]
    columns: int

    @property
    def kernels(self) -> Sequence[Kernel]:
        return winograd_weights(self.method), *COPIES

    def fill(self, memory: np.ndarray, source: Any) -> None:
        transform, plain = winograd_weights(self.method), np.asarray(source)
        parts, in_blocks, out_blocks = self.blocks
        starts = tile_starts(out_blocks, self.columns)
        panel = in_blocks, LANES, self.columns, LANES
        rounds = self.method.rounds
        packed = memory.view(Type.bf16.to_dtype() if rounds else np.float32)
        packed = packed.reshape(parts, self.method.products, len(starts), prod(panel))
        exact = np.empty((self.method.products, prod(panel)), np.float32)
        ordered = np.zeros((prod(self.taps), *panel), np.float32)
        for part in range(parts):
            for index, start in enumerate(starts):
                rows = ordered.swapaxes(0, 1)
                fill_panel(self.channels, plain, rows, part * out_blocks + start, part * in_blocks)
                planes = exact if rounds else packed[part, :, index]
                run_kernel(
                    transform, source=ordered.ctypes.data, source_row=ordered.strides[0],
                    target=planes.ctypes.data, target_plane=planes.strides[0], vectors=ordered[0].size // LANES,
                )  # fmt: skip
                if rounds:
                    pairs = exact.reshape(-1, in_blocks, LANES // 2, 2, self.columns, LANES)
                    packed[part, :, index] = np.moveaxis(pairs, 3, -1).reshape(exact.shape)
