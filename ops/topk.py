"""The k largest or smallest elements along an axis, by a heap of indices in memory of the kernel's own."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.compiler.typed import load
from cpuruntime.ops.movement import copy_element

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source values indices heaps element outer length inner count")
ENTRY = 8  # bytes of an index in a heap


@cache
@factory
def top_k(largest: bool, dtype: str) -> Kernel:
    """indices[o, :, i] (int64) of the `count` best elements of source[o, :, i], best first, and their values.

    Of equal elements the first ones are better. NaN is worse than everything else. `heaps` has `count` entries for each
    thread: users can write to the outputs at any time, so no index is read back from there.
    """
    read, better = load(dtype), _better(largest)
    sink = _sink(read, better)

    @kernel(ARGUMENTS, name=f"top_k_{'largest' if largest else 'smallest'}_{dtype}")
    def run(a, thread, threads):
        lines, stride, k = a.outer * a.inner, a.inner * a.element, a.count
        # The root of the heap is the worst of the best so far.
        heap = a.heaps + thread * k * ENTRY
        for line in range(lines * thread // threads, lines * (thread + 1) // threads):
            outer, i = line // a.inner, line % a.inner
            source = a.source + (outer * a.length * a.inner + i) * a.element
            place = outer * k * a.inner + i
            for n in range(k):
                simd.store_i64(heap + n * ENTRY, n)
            for root in range(k // 2 - 1, -1, -1):
                sink(source, stride, heap, k, root, simd.load_i64(heap + root * ENTRY))
            for n in range(k, a.length):
                worst = simd.load_i64(heap)
                if better(read(source + n * stride, 0), n, read(source + worst * stride, 0), worst):
                    sink(source, stride, heap, k, 0, n)
            # The worst goes to the end, again and again.
            for size in range(k - 1, 0, -1):
                worst, last = simd.load_i64(heap), simd.load_i64(heap + size * ENTRY)
                sink(source, stride, heap, size, 0, last)
                simd.store_i64(heap + size * ENTRY, worst)
            for n in range(k):
                index = simd.load_i64(heap + n * ENTRY)
                simd.store_i64(a.indices + (place + n * a.inner) * 8, index)
                copy_element(source + index * stride, a.values + (place + n * a.inner) * a.element, a.element)

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
    def run(source, stride, heap, size, hole, new):
        x = read(source + new * stride, 0)
        child = 2 * hole + 1
        while child < size:
            index = simd.load_i64(heap + child * ENTRY)
            y = read(source + index * stride, 0)
            if child + 1 < size:
                other = simd.load_i64(heap + (child + 1) * ENTRY)
                z = read(source + other * stride, 0)
                if better(y, index, z, other):
                    child, index, y = child + 1, other, z
            if not better(x, new, y, index):
                break
            simd.store_i64(heap + hole * ENTRY, index)
            hole, child = child, 2 * child + 1
        simd.store_i64(heap + hole * ENTRY, new)

    return run
