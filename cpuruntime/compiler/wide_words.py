"""Stores of int32 lanes as int64, which is what indices are in models.

Loads the compiler; kernels reach it through `lazy("cpuruntime.compiler.wide_words")`.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.simd import I32, I64, call_llvm, first_lanes, i32s, pointer

_LONGS = ir.VectorType(I64, LANES)


@intrinsic
def store_first_longs(typingctx, address, value, count):
    """Writes the first `count` lanes (0..LANES) of int32 `value` as int64; no other memory is touched."""

    def codegen(context, builder, sig, args):
        longs = builder.sext(args[1], _LONGS)
        arguments = [longs, pointer(builder, args[0], _LONGS), ir.Constant(I32, 8), first_lanes(builder, args[2])]
        call_llvm(builder, f"llvm.masked.store.v{LANES}i64.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, i32s, types.int64), codegen
