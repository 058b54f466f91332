"""Local response normalisation across channels on the blocked layout."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.functions.vector_math import exp, log

shuffle = lazy("cpuruntime.compiler.shuffle")
simd = lazy("cpuruntime.compiler.simd")

LRN = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "batch channels height width size", alpha="f4", beta="f4", bias="f4",
)  # fmt: skip


@inline
def _squares(a, source, block):
    """The squares of a block's channels; zero beyond the first and last channel."""
    zero = simd.broadcast(0.0)
    result = zero
    if 0 <= block * LANES < a.channels:
        values = simd.load(source + block * a.source_block)
        result = simd.select(shuffle.lane_numbers() < a.channels - block * LANES, values * values, zero)
    return result


@inline
def _window_sum(a, source, block):
    """Per channel c of a block, the sum of squares over c - (size - 1) // 2 ... c + size // 2."""
    squares = _squares(a, source, block)
    total, near, far = squares, squares, _squares(a, source, block - 1)
    for distance in range(1, (a.size - 1) // 2 + 1):
        near, far = shuffle.shift_up(far, near), shuffle.shift_up(far, far)
        total = total + near
        if distance % LANES == 0:
            far = _squares(a, source, block - 1 - distance // LANES)
    near, far = squares, _squares(a, source, block + 1)
    for distance in range(1, a.size // 2 + 1):
        near, far = shuffle.shift_down(near, far), shuffle.shift_down(far, far)
        total = total + near
        if distance % LANES == 0:
            far = _squares(a, source, block + 1 + distance // LANES)
    return total


@cache
@factory
def lrn(beta: float) -> Kernel:
    """target = source / (bias + alpha / size * sum of squares over `size` channels around each) ^ beta.

    The field `beta` has to be this beta; 0.5 and 0.75 have kernels of their own. Lanes beyond the channels count as
    zeros whatever they hold, and become zeros.
    """
    roots = {0.5: 1, 0.75: 2}.get(beta, 0)

    @kernel(LRN, name=f"lrn_f32_{LANES}_{('general', 'sqrt', 'sqrt_sqrt')[roots]}")
    def run(a, thread, threads):
        blocks = (a.channels + LANES - 1) // LANES
        items = a.batch * a.height * blocks
        scale = a.alpha / a.size
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            block, y, image = item % blocks, item // blocks % a.height, item // blocks // a.height
            source = a.source + image * a.source_batch + y * a.source_row
            target = a.target + image * a.target_batch + y * a.target_row + block * a.target_block
            inside = shuffle.lane_numbers() < a.channels - block * LANES
            for _ in range(a.width):
                base = _window_sum(a, source, block) * scale + a.bias
                values = simd.load(source + block * a.source_block)
                if roots == 0:
                    values = values * exp(log(base) * -a.beta)
                else:
                    root = simd.sqrt(base)
                    values = values / (root if roots == 1 else root * simd.sqrt(root))
                simd.store(target, simd.select(inside, values, simd.broadcast(0.0)))
                source += VECTOR_BYTES
                target += VECTOR_BYTES

    return run
