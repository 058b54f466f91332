"""Cumulative sums and products along an axis, and triangles of matrices."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, record
from cpuruntime.compiler.typed import as_element, load, store
from cpuruntime.ops.movement import copy_element, read_index, within

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

SUMS = record("source target size exclusive reverse axis axis_bytes extents rank fault")
TRIANGLE = record("source target zero element batch rows columns offset upper")


@cache
@factory
def cumulative(dtype: str, product: bool = False) -> Kernel:
    """target[o, n, i] = sum or product of source[o, :n + 1, i], if `exclusive` without the last; if `reverse` from the
    end.

    The axis is the number of `axis_bytes` at `axis`, of the `rank` int64 at `extents`, as `within` takes it.
    """
    read, write, element = load(dtype), store(dtype), as_element(dtype)

    @kernel(SUMS, name=f"cumulative_{'product' if product else 'sum'}_{dtype}")
    def run(a, thread, threads):
        axis = within(read_index(a.axis, 0, a.axis_bytes), a.rank, a.fault)
        length = simd.load_i64(a.extents + 8 * axis)
        inner = 1
        for behind in range(axis + 1, a.rank):
            inner *= simd.load_i64(a.extents + 8 * behind)
        lines = a.size // max(length, 1)
        for line in range(lines * thread // threads, lines * (thread + 1) // threads):
            start = line // inner * length * inner + line % inner
            total = element(1 if product else 0)
            for n in range(length):
                place = start + (length - 1 - n if a.reverse != 0 else n) * inner
                before = total
                value = read(a.source, place)
                total = element(total * value if product else total + value)
                write(a.target, place, before if a.exclusive != 0 else total)

    return run


@kernel(TRIANGLE)
def triangle(a, thread, threads):
    """Matrices with zeros below a diagonal if `upper`, above it otherwise; its int64 number is at `offset`."""
    diagonal = max(-a.rows, min(once.load_i64(a.offset), a.columns))
    rows = a.batch * a.rows
    for row in range(rows * thread // threads, rows * (thread + 1) // threads):
        edge = row % a.rows + diagonal
        for column in range(a.columns):
            place = (row * a.columns + column) * a.element
            keeps = column >= edge if a.upper != 0 else column <= edge
            copy_element(a.source + place if keeps else a.zero, a.target + place, a.element)
