"""The k largest or smallest elements along an axis, by a heap of indices."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Inline, Kernel, inline, kernel, lazy, record
from cpuruntime.compiler.typed import load
from cpuruntime.ops.movement import copy_element

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source values indices element outer length inner count")


@cache
def top_k(largest: bool, dtype: str) -> Kernel:
    """indices[o, :, i] (int64) of the `count` best elements of source[o, :, i], best first, and their values.

    Of equal elements the first ones are better. NaN is worse than everything else.
    """
    read, better = load(dtype), _better(largest)
    sink = _sink(read, better)

    @kernel(ARGUMENTS, name=f"top_k_{'largest' if largest else 'smallest'}_{dtype}")
    def run(a, thread, threads):
        lines, step, stride, k = a.outer * a.inner, a.inner * 8, a.inner * a.element, a.count
        for line in range(lines * thread // threads, lines * (thread + 1) // threads):
            outer, i = line // a.inner, line % a.inner
            source = a.source + (outer * a.length * a.inner + i) * a.element
            # The indices themselves are the heap: its root is the worst of the best so far.
            heap = a.indices + (outer * k * a.inner + i) * 8
            values = a.values + (outer * k * a.inner + i) * a.element
            for n in range(k):
                simd.store_i64(heap + n * step, n)
            for root in range(k // 2 - 1, -1, -1):
                sink(source, stride, heap, step, k, root, simd.load_i64(heap + root * step))
            for n in range(k, a.length):
                worst = simd.load_i64(heap)
                if better(read(source + n * stride, 0), n, read(source + worst * stride, 0), worst):
                    sink(source, stride, heap, step, k, 0, n)
            # The worst goes to the end, again and again.
            for size in range(k - 1, 0, -1):
                worst, last = simd.load_i64(heap), simd.load_i64(heap + size * step)
                sink(source, stride, heap, step, size, 0, last)
                simd.store_i64(heap + size * step, worst)
            for n in range(k):
                index = simd.load_i64(heap + n * step)
                copy_element(source + index * stride, values + n * stride, a.element)

    return run


def _better(largest: bool) -> Inline:
    """better(x, index of x, y, index of y)."""

    @inline
    def run(x, a, y, b):
        if x == y or (x != x and y != y):
            return a < b
        if y != y or x != x:
            return x == x
        return x > y if largest else x < y

    return run


def _sink(read: Inline, better: Inline) -> Inline:
    """Puts the index `new` into the heap of `size` indices where `hole` is free, below what is worse."""

    @inline
    def run(source, stride, heap, step, size, hole, new):
        x = read(source + new * stride, 0)
        child = 2 * hole + 1
        while child < size:
            index = simd.load_i64(heap + child * step)
            y = read(source + index * stride, 0)
            if child + 1 < size:
                other = simd.load_i64(heap + (child + 1) * step)
                z = read(source + other * stride, 0)
                if better(y, index, z, other):
                    child, index, y = child + 1, other, z
            if not better(x, new, y, index):
                break
            simd.store_i64(heap + hole * step, index)
            hole, child = child, 2 * child + 1
        simd.store_i64(heap + hole * step, new)

    return run
