"""The register tile of bf16 numbers, whose sums are float32. Importing this module loads the compiler.

A 32-bit lane holds two successive numbers of a row, or of a column of weights: an element is a pair, and the tile is
that of float32 otherwise. Without an instruction for it (vdpbf16ps) a pair takes two multiply-adds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, bf16_products
from cpuruntime.compiler.simd import FLOATS, WORDS, call_llvm, f32s, operation, pointer
from cpuruntime.ops.tiles.register_tile import Emitter, chain, make_tile

SHORTS = ir.VectorType(ir.IntType(16), LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite lacks."""

    intrinsic_name = "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


NUMBERS, PAIRS = ir.VectorType(_BFloat(), LANES), ir.VectorType(_BFloat(), 2 * LANES)


class Bf16Emitter(Emitter):
    """Emits the tile."""

    vectors = WORDS

    def multiply_add(self, a: ir.Value, b: ir.Value, total: ir.Value) -> ir.Value:
        builder = self.builder
        if bf16_products():
            operands = [total, builder.bitcast(a, PAIRS), builder.bitcast(b, PAIRS)]
            return call_llvm(builder, f"llvm.x86.avx512bf16.dpbf16ps.{32 * LANES}", FLOATS, operands)
        for half in (_second, _first):
            total = super().multiply_add(half(builder, a), half(builder, b), total)
        return total


def _first(builder: ir.IRBuilder, pair: ir.Value) -> ir.Value:
    return builder.bitcast(builder.shl(pair, ir.Constant(WORDS, [16] * LANES)), FLOATS)


def _second(builder: ir.IRBuilder, pair: ir.Value) -> ir.Value:
    return builder.bitcast(builder.and_(pair, ir.Constant(WORDS, [0xFFFF0000] * LANES)), FLOATS)


def make_bf16_tile(rows: int, columns: int, unroll: int, lines: int) -> Any:
    """The tile of a row-major matrix, see `make_tile`."""
    return make_tile(rows, columns, unroll, None, True, lines, kind=Bf16Emitter)


def make_bf16_block_tile(rows: int, columns: int, unroll: int) -> Any:
    """The tile of successive pixels in blocks of LANES numbers."""
    return make_tile(rows, columns, unroll, VECTOR_BYTES // 2, False, unroll, kind=Bf16Emitter)


@operation(f32s, types.int64)
def pair_chain(builder, count):
    """`count` rounds of 12 independent products of pairs that stay in registers: what a core can do at most."""
    half = ir.Constant(WORDS, [0x3F003F00] * LANES)
    emitter = Bf16Emitter(builder, 1, 1, 1, None)
    return chain(builder, count, lambda total: emitter.multiply_add(half, half, total))


@operation(types.void, types.int64, f32s)
def store_bf16(builder, address, value):
    """Writes a vector of float32 as bf16, rounded to the nearest, ties to even."""
    builder.store(rounded(builder, value), pointer(builder, address, SHORTS), align=2)


@operation(types.void, types.int64, f32s, f32s)
def store_pairs(builder, address, first, second):
    """Writes pairs of numbers of two vectors, rounded in the same way."""
    low, high = (builder.zext(rounded(builder, value), WORDS) for value in (first, second))
    pairs = builder.or_(low, builder.shl(high, ir.Constant(WORDS, [16] * LANES)))
    builder.store(pairs, pointer(builder, address, WORDS), align=4)


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The bits of bf16 numbers."""
    if bf16_products():
        return builder.bitcast(builder.fptrunc(value, NUMBERS), SHORTS)
    bits, half = builder.bitcast(value, WORDS), ir.Constant(WORDS, [16] * LANES)
    odd = builder.and_(builder.lshr(bits, half), ir.Constant(WORDS, [1] * LANES))
    up = builder.lshr(builder.add(bits, builder.add(odd, ir.Constant(WORDS, [0x7FFF] * LANES))), half)
    quiet = builder.lshr(builder.or_(bits, ir.Constant(WORDS, [0x400000] * LANES)), half)
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", value, value), quiet, up), SHORTS)
