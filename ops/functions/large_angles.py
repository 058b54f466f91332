"""Angles of any size reduced to a quarter turn, exactly enough for float32, after Payne and Hanek.

Importing this module loads the compiler.
"""

from __future__ import annotations

from math import pi

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.simd import FLOATS, I32, I64, WORDS, call_llvm, f32s, i32s, splat

LONGS, DOUBLES = ir.VectorType(I64, LANES), ir.VectorType(ir.DoubleType(), LANES)
# The binary digits of 2 / pi after the point, 32 at a time; before them those of the integer part, which is 0.
TWO_OVER_PI = (
    0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561, 0xB7246E3A,
)  # fmt: skip


def _words(number: int) -> ir.Constant:
    return ir.Constant(WORDS, [number] * LANES)


def _longs(number: int) -> ir.Constant:
    return ir.Constant(LONGS, [number] * LANES)


def _digits(builder: ir.IRBuilder, first: ir.Value) -> tuple[ir.Value, ir.Value]:
    """96 digits of 2 / pi from number `first` (int32 lanes) on: 64 and 32, as int64 lanes."""
    digits = ir.Constant(ir.ArrayType(I32, len(TWO_OVER_PI)), TWO_OVER_PI)
    table = cgutils.global_constant(builder.module, "two_over_pi", digits)
    start = builder.zext(builder.lshr(first, _words(5)), LONGS)
    shift = builder.zext(builder.and_(first, _words(31)), LONGS)
    every = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES)
    parts = []
    for index in range(4):
        offsets = builder.shl(builder.add(start, _longs(index)), _longs(2))
        addresses = builder.add(splat(builder, builder.ptrtoint(table, I64)), offsets)
        pointers = builder.inttoptr(addresses, ir.VectorType(I32.as_pointer(), LANES))
        arguments = [pointers, ir.Constant(I32, 4), every, _words(0)]
        found = call_llvm(builder, f"llvm.masked.gather.v{LANES}i32.v{LANES}p0", WORDS, arguments)
        parts.append(builder.zext(found, LONGS))
    high = builder.or_(builder.shl(parts[0], _longs(32)), parts[1])
    low = builder.or_(builder.shl(parts[2], _longs(32)), parts[3])
    carried = builder.lshr(builder.lshr(low, _longs(1)), builder.sub(_longs(63), shift))
    return builder.or_(builder.shl(high, shift), carried), builder.lshr(builder.shl(low, shift), _longs(32))


@intrinsic
def quarter_turns(typingctx, x):
    """(k, r) with x = (k + 4 n) pi / 2 + r for some n, |r| <= pi / 4, for finite |x| >= 2^-7; garbage for others."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], WORDS)
        exponent = builder.lshr(builder.and_(bits, _words(0x7FFFFFFF)), _words(23))
        mantissa = builder.or_(builder.and_(bits, _words(0x7FFFFF)), _words(0x800000))
        # x = mantissa * 2^(exponent - 150); digits before this one add whole turns.
        first = builder.sub(exponent, _words(120))
        first = builder.select(builder.icmp_signed("<", first, _words(0)), _words(0), first)
        high, low = _digits(builder, first)
        factor = builder.zext(mantissa, LONGS)
        product = builder.add(builder.mul(factor, high), builder.lshr(builder.mul(factor, low), _longs(32)))
        turns = builder.lshr(builder.add(product, _longs(1 << 61)), _longs(62))
        rest = builder.sitofp(builder.sub(product, builder.shl(turns, _longs(62))), DOUBLES)
        angle = builder.fptrunc(builder.fmul(rest, ir.Constant(DOUBLES, [pi / 2**63] * LANES)), FLOATS)
        turns = builder.trunc(turns, WORDS)
        negative = builder.icmp_signed("<", bits, _words(0))
        turns = builder.select(negative, builder.sub(_words(0), turns), turns)
        angle = builder.select(negative, builder.fneg(angle), angle)
        return context.make_tuple(builder, sig.return_type, [turns, angle])

    return types.Tuple((i32s, f32s))(f32s), codegen
