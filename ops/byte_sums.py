"""Sums of neighbouring bytes along an axis with integer weights, rounded to bytes: Pillow's resizing, bit for bit.

Tensors are [outer, extent, inner]; target byte i of an axis is made of `taps` source bytes from `starts[i]` on (int64,
counted along the axis): `(sum(byte * weight) + half) >> bits` with `half` of `1 << bits`, between 0 and 255. Weights
are int32, and no sum leaves the range of int32.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import inline, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")
byte_lanes = lazy("cpuruntime.compiler.byte_lanes")
shuffle = lazy("cpuruntime.compiler.shuffle")

ROWS = record("source target outer extent count inner starts weights taps bits")
PIXELS = record("source target outer extent count inner starts weights blocks bits scratch")


@kernel(ROWS)
def sum_byte_rows(a, thread, threads):
    """Many bytes behind the axis, a vector of them at once; `weights` is [count][taps]."""
    items = a.outer * a.count
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        weights = a.weights + 4 * a.taps * (item % a.count)
        start = item // a.count * a.extent + simd.load_i64(a.starts + 8 * (item % a.count))
        source, target = a.source + start * a.inner, a.target + item * a.inner
        if a.inner < LANES:
            for x in range(a.inner):
                whole = 0
                for tap in range(a.taps):
                    whole += simd.load_u8(source + tap * a.inner + x) * simd.load_i32(weights + 4 * tap)
                _store_byte(target + x, whole, a.bits)
            continue
        for x in range(0, a.inner, LANES):
            first = min(x, a.inner - LANES)
            total = simd.words(1 << (a.bits - 1))
            for tap in range(a.taps):
                weight = simd.words(simd.load_i32(weights + 4 * tap))
                total = total + byte_lanes.load_words(source + tap * a.inner + first) * weight
            total = total >> a.bits
            total = simd.select(total < 0, simd.words(0), total)
            byte_lanes.store_words(target + first, simd.select(total > 255, simd.words(255), total))


@kernel(PIXELS)
def sum_byte_pixels(a, thread, threads):
    """Few bytes behind the axis: `blocks` times LANES taps at once, which lie within the axis.

    `weights` is [count][blocks][inner][LANES], that of each byte; `scratch` has `inner` vectors for each thread.
    """
    scratch = a.scratch + thread * a.inner * 4 * LANES
    size = a.blocks * a.inner * LANES
    for outer in range(a.outer * thread // threads, a.outer * (thread + 1) // threads):
        line, target = a.source + outer * a.extent * a.inner, a.target + outer * a.count * a.inner
        for i in range(a.count):
            source, weights = line + simd.load_i64(a.starts + 8 * i) * a.inner, a.weights + 4 * size * i
            for vector in range(a.inner):
                total, x = simd.words(0), vector * LANES
                for _ in range(a.blocks):
                    total = total + byte_lanes.load_words(source + x) * shuffle.load_words(weights + 4 * x)
                    x += a.inner * LANES
                shuffle.store_words(scratch + 4 * LANES * vector, total)
            for c in range(a.inner):
                whole = 0
                for tap in range(LANES):
                    whole += simd.load_i32(scratch + 4 * (c + tap * a.inner))
                _store_byte(target + i * a.inner + c, whole, a.bits)


@inline
def _store_byte(address, total, bits):
    simd.store_u8(address, min(max((total + (1 << (bits - 1))) >> bits, 0), 255))
