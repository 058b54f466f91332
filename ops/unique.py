"""Unique: the different slices along an axis, by sorting their numbers."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.compiler.typed import DECODE, load, stored_as

simd = lazy("cpuruntime.compiler.simd")

# `order` and `spare` have an int64 for each slice.
ARGUMENTS = record("source order spare first inverse counts found outer length inner appearance")


@cache
@factory
def unique(dtype: str) -> Kernel:
    """The groups of equal slices source[:, n, :]: of each the first slice and the number of slices; of each slice its
    group; at `found` the number of groups. All are int64.

    Groups are in rising order of their slices, element by element, with `appearance` in that of their first slices.
    NaN is equal to NaN and comes last. Runs on one thread.
    """
    compare = _comparison(dtype)
    sort = _sort(compare)

    @kernel(ARGUMENTS, name=f"unique_{dtype}")
    def run(a, thread, threads):
        if thread == 0:
            order = sort(a)
            groups, previous = 0, 0
            for place in range(a.length):
                number = simd.load_i64(order + 8 * place)
                if place == 0 or compare(a, previous, number) != 0:
                    simd.store_i64(a.first + 8 * groups, number)
                    simd.store_i64(a.counts + 8 * groups, 0)
                    groups += 1
                counted = a.counts + 8 * (groups - 1)
                simd.store_i64(counted, simd.load_i64(counted) + 1)
                simd.store_i64(a.inverse + 8 * number, groups - 1)
                previous = number
            if a.appearance != 0:
                _renumber(a, groups)
            simd.store_i64(a.found, groups)

    return run


@inline
def _renumber(a, groups):
    """Groups in the order of their first slices."""
    for group in range(groups):
        simd.store_i64(a.order + 8 * group, -1)
        simd.store_i64(a.spare + 8 * group, simd.load_i64(a.counts + 8 * group))
    found = 0
    for number in range(a.length):
        group = simd.load_i64(a.inverse + 8 * number)
        if simd.load_i64(a.order + 8 * group) < 0:
            simd.store_i64(a.order + 8 * group, found)
            simd.store_i64(a.first + 8 * found, number)
            simd.store_i64(a.counts + 8 * found, simd.load_i64(a.spare + 8 * group))
            found += 1
        simd.store_i64(a.inverse + 8 * number, simd.load_i64(a.order + 8 * group))


def _comparison(dtype: str) -> Inline:
    """compare(a, n, m) is below, at or above 0 as slice n is before, equal to or behind slice m."""
    read, decode = load(stored_as(dtype)), DECODE.get(dtype, _same)

    @inline
    def run(a, n, m):
        for outer in range(a.outer):
            left, right = (outer * a.length + n) * a.inner, (outer * a.length + m) * a.inner
            for i in range(a.inner):
                x, y = decode(read(a.source, left + i)), decode(read(a.source, right + i))
                if x < y or (y != y and x == x):
                    return -1
                if x > y or (x != x and y == y):
                    return 1
        return 0

    return run


@inline
def _same(value):
    return value


def _sort(compare: Inline) -> Inline:
    """The address of the numbers of all slices in rising order, of equal ones as they were: runs are merged."""

    @inline
    def run(a):
        source, target, width = a.order, a.spare, 1
        for number in range(a.length):
            simd.store_i64(source + 8 * number, number)
        while width < a.length:
            for start in range(0, a.length, 2 * width):
                i, middle = start, min(start + width, a.length)
                j, end = middle, min(start + 2 * width, a.length)
                for place in range(start, end):
                    takes_left = i < middle
                    if takes_left and j < end:
                        left, right = simd.load_i64(source + 8 * i), simd.load_i64(source + 8 * j)
                        takes_left = compare(a, left, right) <= 0
                    if takes_left:
                        simd.store_i64(target + 8 * place, simd.load_i64(source + 8 * i))
                        i += 1
                    else:
                        simd.store_i64(target + 8 * place, simd.load_i64(source + 8 * j))
                        j += 1
            source, target, width = target, source, 2 * width
        return source

    return run
