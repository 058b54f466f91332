"""Cumulative sums along an axis, and triangles of matrices."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Kernel, factory, kernel, record
from cpuruntime.compiler.typed import as_element, load, store
from cpuruntime.ops.movement import copy_element

SUMS = record("source target outer length inner exclusive reverse")
TRIANGLE = record("source target zero element batch rows columns diagonal upper")


@cache
@factory
def cumulative_sum(dtype: str) -> Kernel:
    """target[o, n, i] = sum of source[o, :n + 1, i], if `exclusive` without the last; if `reverse` from the end."""
    read, write, element = load(dtype), store(dtype), as_element(dtype)

    @kernel(SUMS, name=f"cumulative_sum_{dtype}")
    def run(a, thread, threads):
        lines = a.outer * a.inner
        for line in range(lines * thread // threads, lines * (thread + 1) // threads):
            start = line // a.inner * a.length * a.inner + line % a.inner
            total = element(0)
            for n in range(a.length):
                place = start + (a.length - 1 - n if a.reverse != 0 else n) * a.inner
                before = total
                total = element(total + read(a.source, place))
                write(a.target, place, before if a.exclusive != 0 else total)

    return run


@kernel(TRIANGLE)
def triangle(a, thread, threads):
    """Matrices with zeros below the diagonal number `diagonal` if `upper`, above it otherwise."""
    rows = a.batch * a.rows
    for row in range(rows * thread // threads, rows * (thread + 1) // threads):
        edge = row % a.rows + a.diagonal
        for column in range(a.columns):
            place = (row * a.columns + column) * a.element
            keeps = column >= edge if a.upper != 0 else column <= edge
            copy_element(a.source + place if keeps else a.zero, a.target + place, a.element)
