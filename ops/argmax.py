"""Where the largest or smallest element along an axis lies."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")
wide_words = lazy("cpuruntime.compiler.wide_words")

ARGUMENTS = record(source="i8", target="i8", outer="i8", length="i8", inner="i8")

CHUNK = 8 * LANES  # neighbouring results that a thread makes at once


@cache
def arg_extreme(largest: bool, last: bool) -> Kernel:
    """target[o, i] (int64) is the index of the largest element of source[o, :, i] (float32), or the smallest.

    Of several the first, or the last with `last`. A NaN is neither, unless it comes first.
    """
    name = f"arg_{'max' if largest else 'min'}_{'last' if last else 'first'}_f32_{LANES}"

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
                place = source + 4 * i
                if lanes == 1:
                    best, found = simd.load_f32(place), 0
                    for k in range(1, a.length):
                        value = simd.load_f32(place + k * stride)
                        if largest:
                            better = value >= best if last else value > best
                        else:
                            better = value <= best if last else value < best
                        if better:
                            best, found = value, k
                    simd.store_i64(target + 8 * i, found)
                    continue
                top, where = simd.load_first(place, lanes), simd.words(0)
                for k in range(1, a.length):
                    values = simd.load_first(place + k * stride, lanes)
                    if largest:
                        higher = values >= top if last else values > top
                    else:
                        higher = values <= top if last else values < top
                    top = simd.select(higher, values, top)
                    where = simd.select(higher, simd.words(k), where)
                wide_words.store_first_longs(target + 8 * i, where, lanes)

    return run
