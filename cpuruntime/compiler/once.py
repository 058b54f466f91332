"""Loads of numbers from which a kernel computes an address, a size or a count, out of memory that users can write to.

Another thread may write there at any time. LLVM may execute a plain load twice, and then the number in use is not the
one that was checked. An atomic load is executed once; it is the same machine instruction. Tables that the program made
need none of this. Loads the compiler; kernels reach it through `lazy("cpuruntime.compiler.once")`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.simd import F32, I32, I64, operation, pointer


def _once(element: ir.Type, kind: types.Type) -> Any:
    @operation(kind, types.int64)
    def load(builder, address):
        return builder.load_atomic(pointer(builder, address, element), "monotonic", kind.bitwidth // 8)

    return load


load_i64, load_i32, load_f32 = _once(I64, types.int64), _once(I32, types.int32), _once(F32, types.float32)
