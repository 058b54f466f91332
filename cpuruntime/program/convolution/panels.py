"""The weights of a dense or grouped convolution as register tiles read them: a panel for each column tile."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.program.plan.packing import copy_into


class Channels(Protocol):
    """The channels of a convolution and the groups they fall into."""

    in_channels: int
    channels: int
    group: int


def tile_starts(blocks: int, columns: int) -> list[int]:
    """The first output block of each column tile; the last tile ends with the last block."""
    return [min(b, blocks - columns) for b in range(0, blocks, columns)]


def input_ranges(g: Channels, blocks: int, columns: int) -> list[tuple[int, int]]:
    """The input blocks [first, last) that each column tile of the output reads: those of the groups it touches."""
    group_out, group_in = g.channels // g.group, g.in_channels // g.group
    ranges = []
    for start in tile_starts(blocks, columns):
        first_channel, last_channel = start * LANES, min(g.channels, (start + columns) * LANES) - 1
        first = first_channel // group_out * group_in // LANES
        last = -(-(last_channel // group_out + 1) * group_in // LANES)
        ranges.append((first, last))
    return ranges


def fill_panel(g: Channels, weights: np.ndarray, panel: np.ndarray, start: int, first: int) -> None:
    """Writes the weights of the output channels from block `start` and the input channels from block `first`."""
    group_out, group_in = g.channels // g.group, g.in_channels // g.group
    in_blocks, kernel, _, columns, _ = panel.shape
    begin, end = start * LANES, min(g.channels, (start + columns) * LANES)
    if g.group == 1 and g.in_channels % LANES == 0 and end - begin == columns * LANES:
        part = weights[begin:end].reshape(columns, LANES, in_blocks, LANES, kernel)
        copy_into(panel, part.transpose(2, 4, 3, 0, 1))
        return
    dense = np.zeros((columns * LANES, in_blocks * LANES, kernel), np.float32)
    for group in range(begin // group_out, (end - 1) // group_out + 1):
        low, high = max(begin, group * group_out), min(end, (group + 1) * group_out)
        column = group * group_in - first * LANES
        part = weights[low:high].reshape(high - low, group_in, kernel)
        dense[low - begin : high - begin, column : column + group_in] = part
    copy_into(panel, dense.reshape(columns, LANES, in_blocks, LANES, kernel).transpose(2, 4, 3, 0, 1))
