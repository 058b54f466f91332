"""The epilogue of integer kernels, in registers: exact sums become bytes, or float32.

result = clamp(round(sum * multiplier + bias + residual), low, high) + zero: every operation is rounded by itself, so
that results have the same bits on every processor; ties round to even.
"""

from __future__ import annotations

from llvmlite import ir

from cpuruntime.compiler.simd import (
    BYTES,
    F32,
    FLOATS,
    I32,
    I64,
    LANES,
    WORDS,
    call_llvm,
    first_lanes,
    masked_store,
    pointer,
    splat,
)
from cpuruntime.ops.tiles.integer_shapes import LIMITS


class Limits:
    """The fields of LIMITS at an address, each in all lanes."""

    def __init__(self, builder: ir.IRBuilder, address: ir.Value):
        self._builder, self._address = builder, address

    def _field(self, name: str, kind: ir.Type) -> ir.Value:
        at = self._builder.add(self._address, ir.Constant(I64, LIMITS.fields[name][1]))
        return splat(self._builder, self._builder.load(pointer(self._builder, at, kind), align=4))

    def number(self, name: str) -> ir.Value:
        return self._field(name, F32)

    def word(self, name: str) -> ir.Value:
        return self._field(name, I32)


def requantised(
    builder: ir.IRBuilder, total: ir.Value, parameters: list[ir.Value], limits: Limits, scale: ir.Value | None,
    residual: ir.Value, residual_at: ir.Value | None,
) -> ir.Value:  # fmt: skip
    """Sums as float32 (with a `scale` of the row), else as bytes with the residual added, if its address is not 0."""
    multiplier, bias = parameters
    if scale is not None:
        multiplier = builder.fmul(splat(builder, scale), multiplier)
    value = builder.fadd(builder.fmul(builder.sitofp(total, FLOATS), multiplier), bias)
    low, high = limits.number("low"), limits.number("high")
    if scale is not None:  # keeps a NaN
        value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
        return builder.select(builder.fcmp_ordered("<", high, value), high, value)
    block = builder.block
    with builder.if_then(builder.icmp_signed("!=", residual, ir.Constant(I64, 0))):
        words = builder.zext(builder.load(pointer(builder, residual_at, BYTES), align=1), WORDS)
        words = builder.sub(builder.xor(words, limits.word("residual_flip")), limits.word("residual_zero"))
        more = builder.fmul(builder.sitofp(words, FLOATS), limits.number("residual_scale"))
        added, then = builder.fadd(value, more), builder.block
    total = builder.phi(FLOATS)
    total.add_incoming(value, block)
    total.add_incoming(added, then)
    return _as_bytes(builder, total, limits, low, high)


def _as_bytes(
    builder: ir.IRBuilder, value: ir.Value, limits: Limits, low: ir.Value, high: ir.Value
) -> ir.Value:
    value = builder.select(builder.fcmp_ordered(">", value, low), value, low)
    value = builder.select(builder.fcmp_ordered("<", value, high), value, high)
    return builder.trunc(builder.add(rounded(builder, value), limits.word("zero")), BYTES)


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The nearest integers, ties to even, of numbers within int32."""
    return call_llvm(builder, f"llvm.lrint.v{LANES}i32.v{LANES}f32", WORDS, [value])


def write(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, tail: ir.Value | None) -> None:
    """Stores a vector; its first `tail` lanes where that is given."""
    at = pointer(builder, address, value.type)
    align = 4 if value.type == FLOATS else 1
    if tail is None:
        builder.store(value, at, align=align)
        return
    whole = builder.icmp_signed(">=", tail, ir.Constant(I64, LANES))
    with builder.if_else(whole) as (all_lanes, some):
        with all_lanes:
            builder.store(value, at, align=align)
        with some:
            masked_store(builder, address, value, first_lanes(builder, tail))
