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
    I8,
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
    """The fields of LIMITS at an address, most of them in all lanes."""

    def __init__(self, builder: ir.IRBuilder, address: ir.Value):
        self._builder, self._address = builder, address

    def _field(self, name: str, kind: ir.Type) -> ir.Value:
        at = self._builder.add(self._address, ir.Constant(I64, LIMITS.fields[name][1]))
        return splat(self._builder, self._builder.load(pointer(self._builder, at, kind), align=4))

    def number(self, name: str) -> ir.Value:
        return self._field(name, F32)

    def word(self, name: str) -> ir.Value:
        return self._field(name, I32)

    def _byte(self, name: str) -> ir.Value:
        at = self._builder.add(self._address, ir.Constant(I64, LIMITS.fields[name][1]))
        return self._builder.load(pointer(self._builder, at, I8), align=1)

    def low(self) -> ir.Value:
        """The least byte, unsigned."""
        return self._byte("least")

    def flip(self) -> ir.Value:
        """What makes unsigned bytes those of the result's type."""
        return self._byte("flip")


def as_floats(builder: ir.IRBuilder, total: ir.Value, parameters: list[ir.Value]) -> ir.Value:
    """sum * multiplier + bias."""
    multiplier, bias = parameters
    return builder.fadd(builder.fmul(builder.sitofp(total, FLOATS), multiplier), bias)


def limited(builder: ir.IRBuilder, value: ir.Value, limits: Limits) -> ir.Value:
    """A float32 result within its limits; keeps a NaN."""
    low, high = limits.number("low"), limits.number("high")
    value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
    return builder.select(builder.fcmp_ordered("<", high, value), high, value)


def residual_at(builder: ir.IRBuilder, address: ir.Value, limits: Limits) -> ir.Value:
    """What the bytes of a residual at an address add."""
    words = builder.zext(builder.load(pointer(builder, address, BYTES), align=1), WORDS)
    words = builder.sub(builder.xor(words, limits.word("residual_flip")), limits.word("residual_zero"))
    return builder.fmul(builder.sitofp(words, FLOATS), limits.number("residual_scale"))


def as_bytes(builder: ir.IRBuilder, values: list[ir.Value], limits: Limits) -> list[ir.Value]:
    """Vectors of float32 results as bytes: four at a time are packed by the saturating instructions that there are."""
    high, zero = limits.number("high"), limits.word("zero")
    words = []
    for value in values:
        value = builder.select(builder.fcmp_ordered("<", high, value), high, value)
        words.append(builder.add(rounded(builder, value), zero))
    found: list[ir.Value] = []
    while len(found) < len(values):
        left = len(values) - len(found)
        group = words[len(found) :][: 4 if left >= 4 else 2 if left >= 2 else 1]
        wide = group
        while len(wide) > 1:
            wide = [_joined(builder, a, b) for a, b in zip(wide[::2], wide[1::2])]
        packed = _saturated(builder, wide[0])
        packed = _larger(builder, packed, repeated(builder, limits.low(), packed.type))
        packed = builder.xor(packed, repeated(builder, limits.flip(), packed.type))
        found += [_part(builder, packed, i) for i in range(len(group))]
    return found


def _joined(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    count = 2 * a.type.count
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, count), list(range(count))))


def _saturated(builder: ir.IRBuilder, words: ir.Value) -> ir.Value:
    """int32 as unsigned bytes, those out of range as the nearest."""
    least, most = (ir.Constant(words.type, [number] * words.type.count) for number in (0, 255))
    words = builder.select(builder.icmp_signed(">", words, least), words, least)
    words = builder.select(builder.icmp_signed("<", words, most), words, most)
    return builder.trunc(words, ir.VectorType(I8, words.type.count))


def _larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_unsigned(">", a, b), a, b)


def repeated(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    """A scalar in all elements of a vector type of any length."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), None))


def _part(builder: ir.IRBuilder, packed: ir.Value, index: int) -> ir.Value:
    """Vector number `index` of those that were packed."""
    if packed.type.count == LANES:
        return packed
    lanes = ir.Constant(WORDS, [index * LANES + i for i in range(LANES)])
    return builder.shuffle_vector(packed, ir.Constant(packed.type, ir.Undefined), lanes)


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The nearest integers, ties to even, of numbers within int32."""
    return call_llvm(builder, f"llvm.lrint.v{LANES}i32.v{LANES}f32", WORDS, [value])


def write(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, tail: ir.Value | None) -> None:
    """Stores a vector; its first `tail` lanes where that is given."""
    at = pointer(builder, address, value.type)
    align = 1 if value.type == BYTES else 4
    if tail is None:
        builder.store(value, at, align=align)
        return
    whole = builder.icmp_signed(">=", tail, ir.Constant(I64, LANES))
    with builder.if_else(whole) as (all_lanes, some):
        with all_lanes:
            builder.store(value, at, align=align)
        with some:
            masked_store(builder, address, value, first_lanes(builder, tail))
