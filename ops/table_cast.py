"""Casts from and to types of few bits: a table has the result for every number."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, record
from cpuruntime.compiler.typed import load
from cpuruntime.ops.movement import copy_element

ARGUMENTS = record("source table target size element")


@cache
@factory
def table_cast(source: str) -> Kernel:
    """target[i] = table[source[i]], of `element` bytes, for `source` numbers of "uint8", "uint16" or "float32".

    A float32 stands at its upper 16 bits, the last of which is set where a lower one is: that leaves it on its side of
    every number of less than 7 bits behind the point, and of every tie between two.
    """
    read = load("int32" if source == "float32" else source)

    @inline
    def place(base, index):
        number = read(base, index)
        if source == "float32":
            return ((number >> 16) & 0xFFFF) | (1 if (number & 0xFFFF) != 0 else 0)
        return number

    @kernel(ARGUMENTS, name=f"table_cast_{source}")
    def run(a, thread, threads):
        for i in range(a.size * thread // threads, a.size * (thread + 1) // threads):
            copy_element(a.table + place(a.source, i) * a.element, a.target + i * a.element, a.element)

    return run
