"""The call of a C function by its address, as a Numba intrinsic. Importing it loads the compiler."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from cpuruntime.compiler.simd import I32, I64, pointer

_MOST = 11


@intrinsic
def call(typingctx, address, a, b, c, d, e, f, g, h, i, j, k):
    """What the function at `address` returns as an int32. Those it does not take are ignored, as by any C function.

    Integers and addresses only: in 64-bit conventions each takes a register or eight bytes of the stack.
    """

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(I32, [I64] * _MOST)
        return builder.sext(builder.call(pointer(builder, args[0], function), args[1:]), I64)

    return types.int64(*[types.int64] * (_MOST + 1)), codegen
