"""Stores of int32 lanes as int64, which is what indices are in models.

Loads the compiler; kernels reach it through `lazy("cpuruntime.compiler.wide_words")`.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.simd import I64, first_lanes, i32s, masked_store, operation


@operation(types.void, types.int64, i32s, types.int64)
def store_first_longs(builder, address, value, count):
    """Writes the first `count` lanes (0..LANES) of int32 `value` as int64; no other memory is touched."""
    longs = builder.sext(value, ir.VectorType(I64, LANES))
    masked_store(builder, address, longs, first_lanes(builder, count))
