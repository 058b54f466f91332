"""Instance and group normalisation on the blocked layout: moments of each channel, then factors of each group.

The result is x * scale + shift with a scale and a shift for each channel of each image; `scale_shift` applies them.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import inline, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")

MOMENTS = record("source source_batch source_block source_row moments batch blocks height width")

FACTORS = record("moments weights bias scale shift batch blocks channels groups", epsilon="f4")


@inline
def row_sum(address, width, mean, squares):
    """The sum of `width` vectors less `mean`, or of the squares of these differences."""
    p = q = r = s = simd.broadcast(0.0)
    for _ in range(width // 4):
        a, b = simd.load(address) - mean, simd.load(address + VECTOR_BYTES) - mean
        c, d = simd.load(address + 2 * VECTOR_BYTES) - mean, simd.load(address + 3 * VECTOR_BYTES) - mean
        if squares:
            p, q, r, s = simd.fma(a, a, p), simd.fma(b, b, q), simd.fma(c, c, r), simd.fma(d, d, s)
        else:
            p, q, r, s = p + a, q + b, r + c, s + d
        address += 4 * VECTOR_BYTES
    for _ in range(width % 4):
        a = simd.load(address) - mean
        p = simd.fma(a, a, p) if squares else p + a
        address += VECTOR_BYTES
    return p + q + (r + s)


@kernel(MOMENTS)
def channel_moments(a, thread, threads):
    """Mean and variance of each channel of each image: moments[batch][blocks][2][LANES]."""
    items = a.batch * a.blocks
    count = 1.0 / (a.height * a.width)
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        source = a.source + item // a.blocks * a.source_batch + item % a.blocks * a.source_block
        zero = simd.broadcast(0.0)
        mean = variance = zero
        for y in range(a.height):
            mean = mean + row_sum(source + y * a.source_row, a.width, zero, False)
        mean = mean * count
        for y in range(a.height):
            variance = variance + row_sum(source + y * a.source_row, a.width, mean, True)
        simd.store(a.moments + 2 * item * VECTOR_BYTES, mean)
        simd.store(a.moments + (2 * item + 1) * VECTOR_BYTES, variance * count)


@kernel(FACTORS)
def group_factors(a, thread, threads):
    """scale and shift[batch][blocks][LANES] from the moments of the channels; 0 for lanes that are no channels.

    Normalises each group of successive channels to mean 0 and variance 1, then multiplies by `weights` and adds `bias`
    (one number for each channel).
    """
    items = a.batch * a.groups
    each = a.channels // a.groups
    row = a.blocks * LANES
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        image, first = item // a.groups, item % a.groups * each
        moments = a.moments + image * 2 * a.blocks * VECTOR_BYTES
        mean, variance = 0.0, 0.0
        for c in range(first, first + each):
            mean += simd.load_f32(moments + (c // LANES * 2 * LANES + c % LANES) * 4)
        mean /= each
        for c in range(first, first + each):
            place = moments + (c // LANES * 2 * LANES + c % LANES) * 4
            distance = simd.load_f32(place) - mean
            variance += simd.load_f32(place + VECTOR_BYTES) + distance * distance
        factor = 1.0 / simd.max_lanes(simd.sqrt(simd.broadcast(variance / each + a.epsilon)))
        for c in range(first, first + each):
            scale = simd.load_f32(a.weights + 4 * c) * factor
            simd.store_f32(a.scale + (image * row + c) * 4, scale)
            simd.store_f32(a.shift + (image * row + c) * 4, simd.load_f32(a.bias + 4 * c) - mean * scale)
        if first + each == a.channels:
            for c in range(a.channels, row):
                simd.store_f32(a.scale + (image * row + c) * 4, 0.0)
                simd.store_f32(a.shift + (image * row + c) * 4, 0.0)
