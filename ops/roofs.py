"""Kernels that do nothing but multiply-adds, and nothing but reading: what a core and its memory can do at most."""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, bf16_products
from cpuruntime.compiler.kernel import kernel, lazy, record

bf16 = lazy("cpuruntime.ops.tiles.bf16_tile")
register_tile = lazy("cpuruntime.ops.tiles.register_tile")
simd = lazy("cpuruntime.compiler.simd")

CHAINS = 12
"""Independent multiply-adds in a round of `multiply_add` and `multiply_pairs`."""
STREAM = 8 * VECTOR_BYTES
"""Bytes that `read_memory` reads at a time."""


@kernel(record("rounds target"))
def multiply_add(a, thread, threads):
    """Nothing but multiply-adds in registers."""
    simd.store(a.target, register_tile.fma_chain(a.rounds))


@kernel(record("rounds target"), name=f"multiply_pairs{bf16_products()}_{LANES}", features=bf16_products())
def multiply_pairs(a, thread, threads):
    """The same with pairs of bf16 numbers."""
    simd.store(a.target, bf16.pair_chain(a.rounds))


@kernel(record("source size repeats target"))
def read_memory(a, thread, threads):
    """Sums this thread's share of `size` bytes, a multiple of STREAM, into one vector, `repeats` times."""
    streams = a.size // STREAM
    begin = a.source + streams * thread // threads * STREAM
    end = a.source + streams * (thread + 1) // threads * STREAM
    v = simd.broadcast(0.0)
    s, t, u, w, x, y, z = v, v, v, v, v, v, v
    for _ in range(a.repeats):
        for p in range(begin, end, STREAM):
            s = s + simd.load(p)
            t = t + simd.load(p + VECTOR_BYTES)
            u = u + simd.load(p + 2 * VECTOR_BYTES)
            v = v + simd.load(p + 3 * VECTOR_BYTES)
            w = w + simd.load(p + 4 * VECTOR_BYTES)
            x = x + simd.load(p + 5 * VECTOR_BYTES)
            y = y + simd.load(p + 6 * VECTOR_BYTES)
            z = z + simd.load(p + 7 * VECTOR_BYTES)
    simd.store(a.target + thread * VECTOR_BYTES, s + t + u + v + w + x + y + z)
