"""Reductions of row-major tensors over one or two groups of axes: [outer, repeats, middle, length, inner].

`repeats` and `length` are reduced, the result is [outer, middle, inner]; `reduction` finds the five sizes. float32 is
combined in several partial results, always the same ones, and those pairwise at the end. Reducing nothing gives the
neutral element: 0, 1, or an infinity. Max and Min of anything with a NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import inf

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.compiler.typed import SIZES, as_element, load, store
from cpuruntime.ops.elementwise import VECTOR_BINARY
from cpuruntime.ops.functions.scalar_functions import BINARY as SCALAR_BINARY
from cpuruntime.ops.functions.scalar_functions import NUMBERS
from cpuruntime.ops.functions.vector_math import exp_or_zero, log

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source target outer repeats middle length inner")


def reduction(shape: Sequence[int], axes: Sequence[int]) -> dict[str, int]:
    """The size fields for reducing `axes` (not negative) of a tensor.

    Raises ValueError when the reduced axes lie in more than two groups, counted without axes of size 1.
    """
    groups: list[tuple[bool, int]] = []
    for axis, size in enumerate(shape):
        reduced = axis in axes
        if groups and groups[-1][0] == reduced:
            groups[-1] = (reduced, groups[-1][1] * size)
        elif size != 1:
            groups.append((reduced, size))
    fields = {}
    for name, reduced in (("inner", False), ("length", True), ("middle", False), ("repeats", True), ("outer", False)):
        fields[name] = groups.pop()[1] if groups and groups[-1][0] == reduced else 1
    if groups:
        raise ValueError(f"axes {sorted(axes)} of shape {list(shape)} are more than two groups of neighbours")
    return fields


_plain = inline(lambda x, shift: x)
_square = inline(lambda x, shift: x * x)
_result = inline(lambda total, count, shift: total)
_no_shift = inline(lambda a, source, lanes, shift: shift)
_add, _multiply, _larger, _smaller = (VECTOR_BINARY[op] for op in ("Add", "Mul", "Max", "Min"))


@inline
def _shifted_logarithm(total, count, shift):
    """`shift` is the largest value; where that is infinite it is also the result."""
    return simd.select(simd.absolute(shift) == inf, shift, log(total) + shift)


# Operator: the function of each element, how two are combined, the neutral element, the function of the total.
VECTOR_REDUCTIONS: dict[str, tuple[Inline, Inline, float, Inline]] = {
    "ReduceSum": (_plain, _add, 0.0, _result),
    "ReduceMean": (_plain, _add, 0.0, inline(lambda total, count, shift: total / simd.broadcast(count))),
    "ReduceMax": (_plain, _larger, -inf, _result),
    "ReduceMin": (_plain, _smaller, inf, _result),
    "ReduceProd": (_plain, _multiply, 1.0, _result),
    "ReduceL1": (inline(lambda x, shift: simd.absolute(x)), _add, 0.0, _result),
    "ReduceL2": (_square, _add, 0.0, inline(lambda total, count, shift: simd.sqrt(total))),
    "ReduceSumSquare": (_square, _add, 0.0, _result),
    "ReduceLogSum": (_plain, _add, 0.0, inline(lambda total, count, shift: log(total))),
    "ReduceLogSumExp": (inline(lambda x, shift: exp_or_zero(x - shift)), _add, 0.0, _shifted_logarithm),
}


def _fold(combine: Inline) -> Inline:
    """fold(value): all lanes combined, in every lane."""

    @inline
    def run(value):
        if LANES > 8:
            value = combine(value, simd.rotate(value, 8))
        if LANES > 4:
            value = combine(value, simd.rotate(value, 4))
        value = combine(value, simd.rotate(value, 2))
        return combine(value, simd.rotate(value, 1))

    return run


def _accumulate(each: Inline, combine: Inline, neutral: float) -> Inline:
    fold = _fold(combine)

    @inline
    def run(a, source, lanes, shift):
        """Combines what is reduced to the `lanes` results whose first element lies at `source`."""
        start = simd.broadcast(neutral)
        total0, total1, total2, total3 = start, start, start, start
        step, vectors, tail = a.inner * 4, a.length, 0
        if a.inner == 1:
            step, vectors, tail = VECTOR_BYTES, a.length // LANES, a.length % LANES
        groups = vectors // 4 if lanes == LANES else 0
        singles = vectors - groups * 4
        for repeat in range(a.repeats):
            at = source + repeat * a.middle * a.length * a.inner * 4
            for _ in range(groups):
                total0 = combine(total0, each(simd.load(at), shift))
                total1 = combine(total1, each(simd.load(at + step), shift))
                total2 = combine(total2, each(simd.load(at + 2 * step), shift))
                total3 = combine(total3, each(simd.load(at + 3 * step), shift))
                at += 4 * step
            for i in range(singles + (1 if tail != 0 else 0)):
                present = lanes if i < singles else tail
                value = each(simd.load_first(at, present), shift)
                total0 = combine(total0, simd.select(simd.lanes_below(present), value, start))
                at += step
        total = combine(combine(total0, total1), combine(total2, total3))
        return fold(total) if a.inner == 1 else total

    return run


def _vector_reduction(op: str) -> Kernel:
    each, combine, neutral, finish = VECTOR_REDUCTIONS[op]
    total = _accumulate(each, combine, neutral)
    shift_of = _accumulate(_plain, _larger, -inf) if op == "ReduceLogSumExp" else _no_shift

    @kernel(ARGUMENTS, name=f"{op}_float32")
    def run(a, thread, threads):
        vectors = (a.inner + LANES - 1) // LANES
        items = a.outer * a.middle * vectors
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            first, rest = item % vectors * LANES, item // vectors
            outer, middle = rest // a.middle, rest % a.middle
            source = a.source + ((outer * a.repeats * a.middle + middle) * a.length * a.inner + first) * 4
            results = min(LANES, a.inner - first)
            lanes = LANES if a.inner == 1 else results
            shift = shift_of(a, source, lanes, simd.broadcast(0.0))
            result = finish(total(a, source, lanes, shift), a.repeats * a.length, shift)
            simd.store_first(a.target + (rest * a.inner + first) * 4, result, results)

    return run


SCALAR_REDUCTIONS = {"ReduceSum": "Add", "ReduceProd": "Mul", "ReduceMax": "Max", "ReduceMin": "Min"}
# What there are kernels for, by operator and element type.
REDUCTIONS = {(op, "float32") for op in VECTOR_REDUCTIONS} | {(op, t) for op in SCALAR_REDUCTIONS for t in NUMBERS}


def _neutral(op: str, dtype: str) -> float | int:
    if op in ("ReduceSum", "ReduceProd"):
        return int(op == "ReduceProd")
    if dtype == "float64":
        return -inf if op == "ReduceMax" else inf
    limits = np.iinfo(dtype)
    return int(limits.min if op == "ReduceMax" else limits.max)


def _scalar_reduction(op: str, dtype: str) -> Kernel:
    combine, neutral = SCALAR_BINARY[SCALAR_REDUCTIONS[op], dtype], _neutral(op, dtype)
    read, write, convert, size = load(dtype), store(dtype), as_element(dtype), SIZES[dtype]

    @kernel(ARGUMENTS, name=f"{op}_{dtype}")
    def run(a, thread, threads):
        items = a.outer * a.middle
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            outer, middle = item // a.middle, item % a.middle
            source = a.source + (outer * a.repeats * a.middle + middle) * a.length * a.inner * size
            for i in range(a.inner):
                total = convert(neutral)
                for repeat in range(a.repeats):
                    at = source + (repeat * a.middle * a.length * a.inner + i) * size
                    for k in range(a.length):
                        total = convert(combine(total, read(at, k * a.inner)))
                write(a.target, item * a.inner + i, total)

    return run


@cache
@factory
def reduce_kernel(op: str, dtype: str = "float32") -> Kernel:
    """The kernel of an operator and an element type out of `REDUCTIONS`; integers wrap.

    Threads share the results, never the work for one. Source and target are row-major and may not overlap.
    """
    return _vector_reduction(op) if dtype == "float32" else _scalar_reduction(op, dtype)
