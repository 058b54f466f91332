"""NonZero: the places of elements that are not zero, row by row."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, record
from cpuruntime.compiler.typed import load, store

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source places found size mask")
UNRAVEL = record("places target count rank extents")


@cache
@factory
def non_zero(size: int) -> Kernel:
    """The numbers of those of `size` elements of `source` that have a bit of `mask`, and at `found` how many.

    Elements have `size` bytes. `places` has room for an int64 for each element. Runs on one thread.
    """
    read, write = load(f"int{8 * size}"), store("int64")

    @kernel(ARGUMENTS, name=f"non_zero_{size}")
    def run(a, thread, threads):
        if thread == 0:
            found = 0
            for i in range(a.size):
                # Written in any case, so that nothing is to be predicted.
                write(a.places, found, i)
                if (read(a.source, i) & a.mask) != 0:
                    found += 1
            simd.store_i64(a.found, found)

    return run


@kernel(UNRAVEL)
def unravel(a, thread, threads):
    """target[axis, i] = the coordinate of element places[i] along an axis; `extents` has `rank` int64."""
    for i in range(a.count * thread // threads, a.count * (thread + 1) // threads):
        place = simd.load_i64(a.places + 8 * i)
        for axis in range(a.rank - 1, -1, -1):
            extent = simd.load_i64(a.extents + 8 * axis)
            simd.store_i64(a.target + 8 * (axis * a.count + i), place % extent)
            place //= extent
