"""Layer normalisation of rows: each is brought to mean 0 and variance 1, or to mean square 1, then scaled and shifted.

A row is read from memory once; its second and third reading come from the first-level cache.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, inline, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record(source="i8", target="i8", scale="i8", shift="i8", rows="i8", length="i8", epsilon="f4")


@cache
def layer_norm(centered: bool = True) -> Kernel:
    """target = (source - mean) / sqrt(variance + epsilon) * scale + shift for `rows` adjacent rows of `length` floats.

    Not `centered`, it divides by the root of the mean square instead and subtracts nothing. `scale` and `shift` hold
    `length` floats; either address may be 0. Source and target may be the same memory. Threads share the rows.
    """
    mean_of = _mean if centered else _no_mean

    @kernel(ARGUMENTS, name="LayerNorm" if centered else "RmsNorm")
    def run(a, thread, threads):
        size = a.length * 4
        for row in range(a.rows * thread // threads, a.rows * (thread + 1) // threads):
            source = a.source + row * size
            mean = mean_of(source, a.length)
            variance = _mean_square(source, a.length, mean) + simd.broadcast(a.epsilon)
            _write(a, source, a.target + row * size, mean, 1.0 / simd.sqrt(variance))

    return run


@inline
def _no_mean(source, length):
    return simd.broadcast(0.0)


@inline
def _mean(source, length):
    """The mean of `length` floats, in every lane."""
    total0 = total1 = total2 = total3 = simd.broadcast(0.0)
    full = length - length % LANES
    i = 0
    while i <= full - 4 * LANES:
        at = source + 4 * i
        total0 = total0 + simd.load(at)
        total1 = total1 + simd.load(at + VECTOR_BYTES)
        total2 = total2 + simd.load(at + 2 * VECTOR_BYTES)
        total3 = total3 + simd.load(at + 3 * VECTOR_BYTES)
        i += 4 * LANES
    while i < full:
        total0 = total0 + simd.load(source + 4 * i)
        i += LANES
    total1 = total1 + simd.load_first(source + 4 * full, length - full)
    return simd.broadcast(simd.sum_lanes((total0 + total1) + (total2 + total3))) / simd.broadcast(length)


@inline
def _mean_square(source, length, mean):
    """The mean of the squared distances of `length` floats from `mean`, in every lane."""
    total0 = total1 = total2 = total3 = simd.broadcast(0.0)
    full = length - length % LANES
    i = 0
    while i <= full - 4 * LANES:
        at = source + 4 * i
        d0, d1 = simd.load(at) - mean, simd.load(at + VECTOR_BYTES) - mean
        d2, d3 = simd.load(at + 2 * VECTOR_BYTES) - mean, simd.load(at + 3 * VECTOR_BYTES) - mean
        total0, total1 = total0 + d0 * d0, total1 + d1 * d1
        total2, total3 = total2 + d2 * d2, total3 + d3 * d3
        i += 4 * LANES
    while i < full:
        d0 = simd.load(source + 4 * i) - mean
        total0 = total0 + d0 * d0
        i += LANES
    rest = length - full
    d1 = simd.select(simd.lanes_below(rest), simd.load_first(source + 4 * full, rest) - mean, simd.broadcast(0.0))
    total1 = total1 + d1 * d1
    return simd.broadcast(simd.sum_lanes((total0 + total1) + (total2 + total3))) / simd.broadcast(length)


@inline
def _write(a, source, target, mean, factor):
    full = a.length - a.length % LANES
    one, zero = simd.broadcast(1.0), simd.broadcast(0.0)
    if a.scale != 0 and a.shift != 0:
        for i in range(0, full * 4, VECTOR_BYTES):
            x = (simd.load(source + i) - mean) * factor
            simd.store(target + i, x * simd.load(a.scale + i) + simd.load(a.shift + i))
    elif a.scale != 0:
        for i in range(0, full * 4, VECTOR_BYTES):
            simd.store(target + i, (simd.load(source + i) - mean) * factor * simd.load(a.scale + i))
    else:
        for i in range(0, full * 4, VECTOR_BYTES):
            shift = simd.load(a.shift + i) if a.shift != 0 else zero
            simd.store(target + i, (simd.load(source + i) - mean) * factor + shift)
    at, rest = full * 4, a.length - full
    scale = simd.load_first(a.scale + at, rest) if a.scale != 0 else one
    shift = simd.load_first(a.shift + at, rest) if a.shift != 0 else zero
    x = (simd.load_first(source + at, rest) - mean) * factor
    simd.store_first(target + at, x * scale + shift, rest)
