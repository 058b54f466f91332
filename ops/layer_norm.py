"""Layer normalisation of rows: each is brought to mean 0 and variance 1, or to mean square 1, then scaled and shifted.

A row is read from memory once; its second and third reading come from the first-level cache.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.byte_rows import FIELDS, row_end
from cpuruntime.ops.group_norm import row_sum

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source target scale shift rows length", epsilon="f4")
STORED = record("source target scale shift rows length scratch scratch_size", epsilon="f4", **FIELDS)


@cache
@factory
def layer_norm(centered: bool = True, stored: bool = False) -> Kernel:
    """target = (source - mean) / sqrt(variance + epsilon) * scale + shift for `rows` adjacent rows of `length` floats.

    Not `centered`, it divides by the root of the mean square instead and subtracts nothing. `scale` and `shift` hold
    `length` floats; either address may be 0. Source and target may be the same memory. Threads share the rows.
    `stored`: as bytes, by way of a row in `scratch`.
    """
    (place, finish), element = row_end(stored), 1 if stored else 4
    name = "LayerNorm" if centered else "RmsNorm"

    @kernel(STORED if stored else ARGUMENTS, name=name + "_bytes" * stored)
    def run(a, thread, threads):
        size = a.length * 4
        for row in range(a.rows * thread // threads, a.rows * (thread + 1) // threads):
            source = a.source + row * size
            zero = simd.broadcast(0.0)
            mean = _mean(source, a.length, zero, False) if centered else zero
            variance = _mean(source, a.length, mean, True) + simd.broadcast(a.epsilon)
            target = a.target + row * a.length * element
            at = place(a, thread, target)
            _write(a, source, at, mean, 1.0 / simd.sqrt(variance))
            finish(a, at, target, a.length)

    return run


@inline
def _mean(source, length, mean, squares):
    """The mean of `length` floats less `mean`, or of the squares of these differences, in every lane."""
    whole = length // LANES
    rest = length - whole * LANES
    last = simd.load_first(source + whole * VECTOR_BYTES, rest) - mean
    last = simd.select(simd.lanes_below(rest), last * last if squares else last, simd.broadcast(0.0))
    total = row_sum(source, whole, mean, squares) + last
    return simd.broadcast(simd.sum_lanes(total)) / simd.broadcast(length)


@inline
def _write(a, source, target, mean, factor):
    scales, shifts, full = a.scale, a.shift, a.length - a.length % LANES
    if scales != 0 and shifts != 0:
        for i in range(0, full * 4, VECTOR_BYTES):
            x = (simd.load(source + i) - mean) * factor
            simd.store(target + i, x * simd.load(scales + i) + simd.load(shifts + i))
    else:
        for i in range(0, full * 4, VECTOR_BYTES):
            x = (simd.load(source + i) - mean) * factor
            x = x * simd.load(scales + i) if scales != 0 else x
            simd.store(target + i, x + simd.load(shifts + i) if shifts != 0 else x)
    at, rest = full * 4, a.length - full
    x = (simd.load_first(source + at, rest) - mean) * factor
    if scales != 0:
        x = x * simd.load_first(scales + at, rest)
    if shifts != 0:
        x = x + simd.load_first(shifts + at, rest)
    simd.store_first(target + at, x, rest)
