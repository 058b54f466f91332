"""Values by key: the element of a table that stands for a number, for label and one-hot encoders."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, record
from cpuruntime.compiler.typed import load
from cpuruntime.ops.movement import copy_bytes

simd = lazy("cpuruntime.compiler.simd")

# `others` and `nan` are addresses of values, too.
ARGUMENTS = record("source keys values others nan target fault count keys_count value_bytes")


@cache
@factory
def lookup(dtype: str) -> Kernel:
    """target[i] = values[k] for keys[k] equal to source[i]; `others` where none is, `nan` for NaN.

    Keys rise, none comes twice and none is NaN. Values have `value_bytes`. Where no key is equal, the int64 at `fault`,
    if that is not 0, becomes 1.
    """
    read = load(dtype)

    @kernel(ARGUMENTS, name=f"lookup_{dtype}")
    def run(a, thread, threads):
        for i in range(a.count * thread // threads, a.count * (thread + 1) // threads):
            key = read(a.source, i)
            low, high = 0, a.keys_count
            while low < high:
                middle = (low + high) // 2
                if read(a.keys, middle) < key:
                    low = middle + 1
                else:
                    high = middle
            value = a.others
            if key != key:
                value = a.nan
            elif low < a.keys_count and read(a.keys, low) == key:
                value = a.values + low * a.value_bytes
            elif a.fault != 0:
                simd.store_i64(a.fault, 1)
            copy_bytes(value, a.target + i * a.value_bytes, a.value_bytes)

    return run
