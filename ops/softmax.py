"""Softmax and LogSoftmax along one axis of a row-major tensor [outer, length, inner].

The largest value is subtracted first. A slice that holds NaN or infinity, or nothing but minus infinities, becomes NaN.
Source and target may be the same memory.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, inline, kernel, lazy, record
from cpuruntime.ops.functions.vector_math import exp_or_zero, log

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record(source="i8", target="i8", outer="i8", length="i8", inner="i8")


@cache
def softmax_kernel(logarithm: bool = False) -> Kernel:
    """Softmax over `length`, or its natural logarithm; threads share the outer (and inner) positions."""
    along_rows, along_columns = (_log_row, _log_columns) if logarithm else (_row, _columns)
    return _kernel("LogSoftmax" if logarithm else "Softmax", along_rows, along_columns)


def _kernel(name: str, along_row: Inline, along_columns: Inline) -> Kernel:
    @kernel(ARGUMENTS, name=name)
    def run(a, thread, threads):
        vectors = (a.inner + LANES - 1) // LANES
        items = a.outer * vectors
        size, step = a.length * a.inner * 4, a.inner * 4
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            offset = item // vectors * size + item % vectors * VECTOR_BYTES
            if a.inner == 1:
                along_row(a.source + offset, a.target + offset, a.length)
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


@inline
def _row(source, target, length):
    largest, full = _row_maximum(source, length), length - length % LANES
    total = simd.broadcast(0.0)
    for i in range(0, full, LANES):
        e = exp_or_zero(simd.load(source + 4 * i) - largest)
        simd.store(target + 4 * i, e)
        total = total + e
    rest = length - full
    e = exp_or_zero(simd.load_first(source + 4 * full, rest) - largest)
    total = total + simd.select(simd.lanes_below(rest), e, simd.broadcast(0.0))
    factor = 1.0 / simd.broadcast(simd.sum_lanes(total))
    simd.store_first(target + 4 * full, e * factor, rest)
    for i in range(0, full, LANES):
        simd.store(target + 4 * i, simd.load(target + 4 * i) * factor)


@inline
def _log_row(source, target, length):
    largest, full = _row_maximum(source, length), length - length % LANES
    total = simd.broadcast(0.0)
    for i in range(0, full, LANES):
        total = total + exp_or_zero(simd.load(source + 4 * i) - largest)
    last = simd.load_first(source + 4 * full, length - full) - largest
    total = total + simd.select(simd.lanes_below(length - full), exp_or_zero(last), simd.broadcast(0.0))
    shift = log(simd.broadcast(simd.sum_lanes(total)))
    for i in range(0, full, LANES):
        simd.store(target + 4 * i, (simd.load(source + 4 * i) - largest) - shift)
    simd.store_first(target + 4 * full, last - shift, length - full)


@inline
def _columns_maximum(source, length, step, lanes):
    largest = simd.broadcast(-float("inf"))
    for i in range(length):
        largest = simd.maximum(simd.load_first(source + i * step, lanes), largest)
    return largest


@inline
def _columns(source, target, length, step, lanes):
    largest = _columns_maximum(source, length, step, lanes)
    total = simd.broadcast(0.0)
    for i in range(length):
        e = exp_or_zero(simd.load_first(source + i * step, lanes) - largest)
        simd.store_first(target + i * step, e, lanes)
        total = total + e
    factor = 1.0 / total
    for i in range(length):
        simd.store_first(target + i * step, simd.load_first(target + i * step, lanes) * factor, lanes)


@inline
def _log_columns(source, target, length, step, lanes):
    largest = _columns_maximum(source, length, step, lanes)
    total = simd.broadcast(0.0)
    for i in range(length):
        total = total + exp_or_zero(simd.load_first(source + i * step, lanes) - largest)
    shift = log(total)
    for i in range(length):
        value = (simd.load_first(source + i * step, lanes) - largest) - shift
        simd.store_first(target + i * step, value, lanes)
