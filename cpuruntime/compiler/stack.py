"""Memory of a kernel's own on the stack."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from cpuruntime.compiler.simd import I64, LANES, operation


@cache
def make_buffer(size: int) -> Any:
    """An intrinsic that gives the address of `size` bytes, aligned to vectors, that last as long as the kernel runs."""
    kind = ir.ArrayType(ir.VectorType(ir.FloatType(), LANES), -(-size // (4 * LANES)))

    @operation(types.int64)
    def buffer(builder):
        memory = cgutils.alloca_once(builder, kind)
        memory.align = 4 * LANES
        return builder.ptrtoint(memory, I64)

    return buffer
