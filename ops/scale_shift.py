"""y = activation(x * scale[c] + shift[c]): batch normalisation that stands alone, and products and sums by channel.

The kernel runs on the loop nest of `loops` with x, scale and shift as first, second and third operand; `blocked` and
`plain` give the fields for the two layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, lazy
from cpuruntime.ops.elementwise import limited, limits, some
from cpuruntime.ops.functions.activations import ACTIVATIONS, unchanged
from cpuruntime.ops.tiles.loops import contiguous, nest, nest_kernel

simd = lazy("cpuruntime.compiler.simd")


@cache
@factory
def scale_shift_kernel(activation: str = "") -> Kernel:
    """target = activation(first * second + third), then limited to `low`..`high` when `clamp` is not zero; float32.

    `activation` is "" or one of `ACTIVATIONS`, with its parameters in `alpha` and `beta`.
    """
    return nest_kernel(f"ScaleShift_{activation}", _span(ACTIVATIONS[activation].function if activation else unchanged))


def blocked(shape: Sequence[int], source_strides: Sequence[int], target_strides: Sequence[int]) -> dict[str, int]:
    """Fields for blocked tensors of `shape` [batch, blocks, height, width] with byte strides (batch, block, row).

    Scale and shift hold blocks * LANES floats.
    """
    first = (*source_strides, VECTOR_BYTES, 4)
    target = (*target_strides, VECTOR_BYTES, 4)
    channel = (0, VECTOR_BYTES, 0, 0, 4)
    return nest((*shape, LANES), repeat=True, target=target, first=first, second=channel, third=channel)


def plain(outer: int, channels: int, inner: int) -> dict[str, int]:
    """Fields for row-major tensors [outer, channels, inner]; scale and shift hold `channels` floats."""
    shape = (outer, channels, inner)
    walk, channel = contiguous(shape, 4), (0, 4, 0)
    return nest(shape, target=walk, first=walk, second=channel, third=channel)


def _span(function: Inline) -> Inline:
    @inline
    def span(a, target, first, second, third, count):
        alpha, beta = simd.broadcast(a.alpha), simd.broadcast(a.beta)
        low, high = limits(a)
        done, step = 0, 1
        if a.target5 == 4 and a.first5 == 4:
            step = LANES
            if a.second5 <= 0 and a.third5 <= 0:
                done = count - count % LANES
        lanes = min(LANES, done)
        scale, shift = some(second, a.second5, 0, lanes), some(third, a.third5, 0, lanes)
        for i in range(0, done, LANES):
            result = function(simd.load(first + 4 * i) * scale + shift, alpha, beta)
            simd.store(target + 4 * i, limited(result, low, high))
        for i in range(done, count, step):
            lanes = min(step, count - i)
            scale, shift = some(second, a.second5, i, lanes), some(third, a.third5, i, lanes)
            x = simd.load_first(first + i * a.first5, lanes)
            result = limited(function(x * scale + shift, alpha, beta), low, high)
            simd.store_first(target + i * a.target5, result, lanes)

    return span
