"""Matrix products of element types other than float32, exact for integers, which wrap."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Kernel, factory, kernel, record
from cpuruntime.compiler.typed import SIZES, as_element, load, store

TYPES = ("float64", "int32", "int64", "uint32", "uint64")
CHUNK = 512  # columns whose sums stay in the first-level cache

ARGUMENTS = record("source right target batch rows inner columns source_batch right_batch")


@cache
@factory
def typed_matmul(dtype: str) -> Kernel:
    """target[b] = source[b] @ right[b] for row-major matrices; strides from batch to batch are bytes and may be 0.

    Every sum is made by one thread in the order of the terms.
    """
    read, write, element, size = load(dtype), store(dtype), as_element(dtype), SIZES[dtype]

    @kernel(ARGUMENTS, name=f"matmul_{dtype}")
    def run(a, thread, threads):
        chunks = (a.columns + CHUNK - 1) // CHUNK
        items = a.batch * a.rows * chunks
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            first, line = item % chunks * CHUNK, item // chunks
            count = min(CHUNK, a.columns - first)
            source = a.source + line // a.rows * a.source_batch + line % a.rows * a.inner * size
            right = a.right + line // a.rows * a.right_batch + first * size
            target = a.target + (line * a.columns + first) * size
            for j in range(count):
                write(target, j, element(0))
            for k in range(a.inner):
                factor, row = read(source, k), right + k * a.columns * size
                for j in range(count):
                    write(target, j, element(read(target, j) + element(factor * read(row, j))))

    return run
