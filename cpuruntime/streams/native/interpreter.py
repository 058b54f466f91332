"""Calls of CPython's and NumPy's own functions, as a Numba intrinsic. Importing it loads the compiler."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from cpuruntime.compiler.simd import I64, pointer


@intrinsic
def invoke(typingctx, address, first, second, third, fourth):
    """The word that the C function at `address` returns; functions of fewer arguments leave the others alone."""

    def codegen(context, builder, sig, args):
        return builder.call(pointer(builder, args[0], ir.FunctionType(I64, [I64] * 4)), args[1:])

    return types.int64(*[types.int64] * 5), codegen
