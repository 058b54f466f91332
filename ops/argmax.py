"""ArgMax and ArgMin: the index of the largest or smallest element along an axis."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.compiler.typed import SIZES, load

simd = lazy("cpuruntime.compiler.simd")
wide_words = lazy("cpuruntime.compiler.wide_words")

ARGUMENTS = record("source target outer length inner")

CHUNK = 8 * LANES  # neighbouring results that a thread makes at once


# By `largest` and `last`: whether the index of x replaces that of the best so far.
_BETTER = {
    (True, True): inline(lambda x, best: x >= best),
    (True, False): inline(lambda x, best: x > best),
    (False, True): inline(lambda x, best: x <= best),
    (False, False): inline(lambda x, best: x < best),
}


@cache
@factory
def argmax_kernel(largest: bool, last: bool, dtype: str = "float32") -> Kernel:
    """target[o, i] (int64) is the index of the largest element of source[o, :, i], or the smallest.

    Of several the first, or the last with `last`. A NaN is neither, unless it comes first.
    """
    name = f"arg{'max' if largest else 'min'}_{'last' if last else 'first'}_{dtype}"
    better = _BETTER[largest, last]
    return _vectors(better, name) if dtype == "float32" else _elements(better, name, dtype)


def _elements(better: Inline, name: str, dtype: str) -> Kernel:
    read, size = load(dtype), SIZES[dtype]

    @kernel(ARGUMENTS, name=name)
    def run(a, thread, threads):
        items = a.outer * a.inner
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            source = a.source + (item // a.inner * a.length * a.inner + item % a.inner) * size
            best, index = read(source, 0), 0
            for k in range(1, a.length):
                value = read(source, k * a.inner)
                if better(value, best):
                    best, index = value, k
            simd.store_i64(a.target + 8 * item, index)

    return run


def _vectors(better: Inline, name: str) -> Kernel:

    @kernel(ARGUMENTS, name=name)
    def run(a, thread, threads):
        chunks = (a.inner + CHUNK - 1) // CHUNK
        items = a.outer * chunks
        stride = a.inner * 4
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            begin = item % chunks * CHUNK
            source = a.source + item // chunks * a.length * stride
            target = a.target + item // chunks * a.inner * 8
            for i in range(begin, min(a.inner, begin + CHUNK), LANES):
                lanes = min(LANES, a.inner - i)
                column = source + 4 * i
                if lanes == 1:
                    best, index = simd.load_f32(column), 0
                    for k in range(1, a.length):
                        value = simd.load_f32(column + k * stride)
                        if better(value, best):
                            best, index = value, k
                    simd.store_i64(target + 8 * i, index)
                    continue
                top, indices = simd.load_first(column, lanes), simd.words(0)
                for k in range(1, a.length):
                    values = simd.load_first(column + k * stride, lanes)
                    higher = better(values, top)
                    top = simd.select(higher, values, top)
                    indices = simd.select(higher, simd.words(k), indices)
                wide_words.store_first_longs(target + 8 * i, indices, lanes)

    return run
