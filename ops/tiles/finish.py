"""Activations of finished tiles: they are applied on the way from a buffer to the target.

Not in the target: tiles that overlap compute some elements twice, and an activation must not be applied to its result.
"""

from __future__ import annotations

from typing import Any

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, inline, lazy, made
from cpuruntime.ops.functions.activations import ACTIVATIONS

simd = lazy("cpuruntime.compiler.simd")


def make_buffer(rows: int, columns: int, activation: str) -> Any:
    """An intrinsic that gives the address of memory for a tile; of next to none without an activation."""
    size = rows * columns * VECTOR_BYTES if activation else VECTOR_BYTES
    return made("cpuruntime.compiler.stack", "make_buffer", size)


def make_finish(rows: int, columns: int, activation: str) -> Inline:
    """`finish(a, buffer, target, target_row, target_column, tail)` writes a tile [rows][columns][LANES].

    The activation, one of `ACTIVATIONS`, takes its parameters from the argument block's `alpha` and `beta`; without one
    nothing is done. Of the last column only `tail` lanes are written.
    """
    if not activation:
        return inline(lambda a, buffer, target, target_row, target_column, tail: None)
    function = ACTIVATIONS[activation].function

    @inline
    def finish(a, buffer, target, target_row, target_column, tail):
        alpha, beta = simd.broadcast(a.alpha), simd.broadcast(a.beta)
        for r in range(rows):
            for c in range(columns):
                y = function(simd.load(buffer + (r * columns + c) * VECTOR_BYTES), alpha, beta)
                at = target + r * target_row + c * target_column
                if c < columns - 1 or tail >= LANES:
                    simd.store(at, y)
                else:
                    simd.store_first(at, y, tail)

    return finish
