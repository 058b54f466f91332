"""Softmax and LogSoftmax along one axis of a row-major tensor [outer, length, inner].

The largest value is subtracted first. A slice that holds NaN or infinity, or nothing but minus infinities, becomes NaN.
Source and target may be the same memory.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.byte_rows import FIELDS, row_end
from cpuruntime.ops.functions.vector_math import exp_or_zero, log

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source target outer length inner")
STORED = record("source target outer length inner scratch scratch_size", **FIELDS)


@cache
@factory
def softmax_kernel(logarithm: bool = False, stored: bool = False) -> Kernel:
    """Softmax over `length`, or its natural logarithm; threads share the outer (and inner) indices.

    `stored`: rows (`inner` is 1) as bytes, by way of a row in `scratch`.
    """
    along_row, along_columns = _row(logarithm), _columns(logarithm)

    (place, finish), element = row_end(stored), 1 if stored else 4
    name = "LogSoftmax" if logarithm else "Softmax"

    @kernel(STORED if stored else ARGUMENTS, name=name + "_bytes" * stored)
    def run(a, thread, threads):
        vectors = (a.inner + LANES - 1) // LANES
        items = a.outer * vectors
        size, step = a.length * a.inner * 4, a.inner * 4
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            offset = item // vectors * size + item % vectors * VECTOR_BYTES
            if a.inner == 1:
                target = a.target + item * a.length * element
                row = place(a, thread, target)
                along_row(a.source + offset, row, a.length)
                finish(a, row, target, a.length)
            else:
                lanes = min(LANES, a.inner - item % vectors * LANES)
                along_columns(a.source + offset, a.target + offset, a.length, step, lanes)

    return run


@inline
def _row_maximum(source, length):
    """The largest of `length` adjacent floats, in every lane."""
    lowest = simd.broadcast(-float("inf"))
    full = length - length % LANES
    largest = lowest
    for i in range(0, full, LANES):
        largest = simd.maximum(simd.load(source + 4 * i), largest)
    rest = simd.load_first(source + 4 * full, length - full)
    largest = simd.maximum(simd.select(simd.lanes_below(length - full), rest, lowest), largest)
    return simd.broadcast(simd.max_lanes(largest))


# The logarithm reads the source again, so only the other stores exponentials in the target, which may be the source.


def _row(logarithm: bool) -> Inline:
    @inline
    def run(source, target, length):
        largest, full = _row_maximum(source, length), length - length % LANES
        total = simd.broadcast(0.0)
        for i in range(0, full, LANES):
            e = exp_or_zero(simd.load(source + 4 * i) - largest)
            if not logarithm:
                simd.store(target + 4 * i, e)
            total = total + e
        rest = length - full
        last = simd.load_first(source + 4 * full, rest) - largest
        e = exp_or_zero(last)
        total = simd.broadcast(simd.sum_lanes(total + simd.select(simd.lanes_below(rest), e, simd.broadcast(0.0))))
        shift, factor = log(total), 1.0 / total
        for i in range(0, full, LANES):
            if logarithm:
                simd.store(target + 4 * i, (simd.load(source + 4 * i) - largest) - shift)
            else:
                simd.store(target + 4 * i, simd.load(target + 4 * i) * factor)
        simd.store_first(target + 4 * full, last - shift if logarithm else e * factor, rest)

    return run


def _columns(logarithm: bool) -> Inline:
    @inline
    def run(source, target, length, step, lanes):
        largest, total = simd.broadcast(-float("inf")), simd.broadcast(0.0)
        for i in range(length):
            largest = simd.maximum(simd.load_first(source + i * step, lanes), largest)
        for i in range(length):
            e = exp_or_zero(simd.load_first(source + i * step, lanes) - largest)
            if not logarithm:
                simd.store_first(target + i * step, e, lanes)
            total = total + e
        shift, factor = log(total), 1.0 / total
        for i in range(length):
            if logarithm:
                value = (simd.load_first(source + i * step, lanes) - largest) - shift
            else:
                value = simd.load_first(target + i * step, lanes) * factor
            simd.store_first(target + i * step, value, lanes)

    return run
