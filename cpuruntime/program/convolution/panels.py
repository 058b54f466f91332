"""The weights of a dense or grouped convolution as register tiles read them: a panel for each column tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.program.plan.packing import Packing, copy_into
from cpuruntime.records import record


@record
class Channels:
    """The channels of a convolution, which are in groups."""

    inputs: int
    outputs: int
    group: int

    @property
    def of_group(self) -> tuple[int, int]:
        """The inputs and outputs of a group."""
        return self.inputs // self.group, self.outputs // self.group


def tile_starts(blocks: int, columns: int) -> list[int]:
    """The first output block of each column tile; the last tile ends with the last block."""
    return [min(b, blocks - columns) for b in range(0, blocks, columns)]


def fill_panels(channels: Channels, weights: np.ndarray, panels: np.ndarray, starts: Sequence[int]) -> None:
    """Writes the weights of a dense convolution, a panel for each output block in `starts`; see `fill_panel`."""
    _, in_blocks, kernel, lanes, columns, _ = panels.shape
    whole = channels.outputs // (columns * LANES) if channels.inputs % lanes == 0 else 0
    if whole:
        part = weights[: whole * columns * LANES].reshape(whole, columns, LANES, in_blocks, lanes, kernel)
        copy_into(panels[:whole], part.transpose(0, 3, 5, 4, 1, 2))
    for panel, start in zip(panels[whole:], starts[whole:]):
        fill_panel(channels, weights, panel, start, 0)


def fill_panel(channels: Channels, weights: np.ndarray, panel: np.ndarray, start: int, first: int) -> None:
    """Writes the weights of the output channels from block `start` and the input channels from block `first`.

    The panel is [input blocks][kernel][input lanes][columns][LANES].
    """
    group_in, group_out = channels.of_group
    in_blocks, kernel, lanes, columns, _ = panel.shape
    begin, end = start * LANES, min(channels.outputs, (start + columns) * LANES)
    if channels.group == 1 and channels.inputs % lanes == 0 and end - begin == columns * LANES:
        part = weights[begin:end].reshape(columns, LANES, in_blocks, lanes, kernel)
        copy_into(panel, part.transpose(2, 4, 3, 0, 1))
        return
    dense = np.zeros((columns * LANES, in_blocks * lanes, kernel), np.float32)
    for group in range(begin // group_out, (end - 1) // group_out + 1):
        low, high = max(begin, group * group_out), min(end, (group + 1) * group_out)
        column = group * group_in - first * lanes
        part = weights[low:high].reshape(high - low, group_in, kernel)
        dense[low - begin : high - begin, column : column + group_in] = part
    copy_into(panel, dense.reshape(columns, LANES, in_blocks, lanes, kernel).transpose(2, 4, 3, 0, 1))


@record
class PanelPacking(Packing):
    """A panel of this shape for each column tile, which begin with the blocks `starts`."""

    channels: Channels
    shape: tuple[int, ...]
    starts: tuple[int, ...]

    def fill(self, memory: np.ndarray, source: Any) -> None:
        fill_panels(self.channels, np.asarray(source), memory.view(np.float32).reshape(-1, *self.shape), self.starts)
