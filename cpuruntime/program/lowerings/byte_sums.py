"""ByteSums: sums of neighbouring bytes along an axis with integer weights."""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node
from cpuruntime.ops.byte_sums import sum_byte_pixels, sum_byte_rows
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import along, lowering
from cpuruntime.program.plan.storage import Address


@lowering("ByteSums", domain="cpuruntime")
def lower_byte_sums(emitter: Emitter, node: Node) -> None:
    """Vectors of taps where few bytes lie behind the axis, else vectors of these bytes."""
    source, matrix = emitter.plain(node.require(0)), node.require(1).data
    target = emitter.new_plain(node.outputs[0])
    sizes = along(source.shape, node.attributes["axis"])
    extent, inner = matrix.shape[1], sizes["inner"]
    starts, taps = _bands(matrix)
    fields = dict(
        source=source.address, target=target.address, outer=sizes["outer"], extent=extent, count=len(matrix),
        inner=inner, bits=node.attributes["bits"],
    )  # fmt: skip
    whole = -(-taps // LANES) * LANES
    across = isinstance(inner, int) and inner < LANES and whole <= extent
    taps = whole if across else taps
    starts = np.minimum(starts, extent - taps)
    weights = np.take_along_axis(matrix, starts[:, None] + np.arange(taps), 1)
    fields["starts"] = emitter.constant(starts)
    if across:
        fields["weights"] = emitter.constant(np.repeat(weights, inner, 1))
        scratch = Address(emitter.scratch(inner * 4 * LANES * emitter.threads))
        emitter.emit(sum_byte_pixels, "plain", **fields, blocks=taps // LANES, scratch=scratch)
    else:
        emitter.emit(sum_byte_rows, "plain", **fields, weights=emitter.constant(weights), taps=taps)


def _bands(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """Where the numbers that are not 0 begin in each row, and how many columns hold those of any row at most."""
    columns = np.arange(matrix.shape[1])
    first = np.where(matrix, columns, matrix.shape[1] - 1).min(1)
    last = np.where(matrix, columns, 0).max(1)
    return first, max(int((last - first).max()) + 1, 1)
