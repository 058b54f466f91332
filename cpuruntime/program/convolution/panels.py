"""The weights of a dense or grouped convolution as register tiles read them: a panel for each column tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.packing import copy_into


def tile_starts(blocks: int, columns: int) -> list[int]:
    """The first output block of each column tile; the last tile ends with the last block."""
    return [min(b, blocks - columns) for b in range(0, blocks, columns)]


def fill_panels(g: Geometry, weights: np.ndarray, panels: np.ndarray, starts: Sequence[int]) -> None:
    """Writes the weights of a dense convolution, a panel for each output block in `starts`; see `fill_panel`."""
    _, in_blocks, kernel, lanes, columns, _ = panels.shape
    whole = g.channels // (columns * LANES) if g.in_channels % lanes == 0 else 0
    if whole:
        part = weights[: whole * columns * LANES].reshape(whole, columns, LANES, in_blocks, lanes, kernel)
        copy_into(panels[:whole], part.transpose(0, 3, 5, 4, 1, 2))
    for panel, start in zip(panels[whole:], starts[whole:]):
        fill_panel(g, weights, panel, start, 0)


def fill_panel(g: Geometry, weights: np.ndarray, panel: np.ndarray, start: int, first: int) -> None:
    """Writes the weights of the output channels from block `start` and the input channels from block `first`.

    The panel is [input blocks][kernel][input lanes][columns][LANES].
    """
    group_in, group_out = g.of_group
    in_blocks, kernel, lanes, columns, _ = panel.shape
    begin, end = start * LANES, min(g.channels, (start + columns) * LANES)
    if g.group == 1 and g.in_channels % lanes == 0 and end - begin == columns * LANES:
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
