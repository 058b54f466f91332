"""The epilogue of integer kernels, in registers: exact sums become bytes, or float32.

result = clamp(round(sum * multiplier + bias + residual), low, high) + zero: every operation is rounded by itself, so
that results have the same bits on every processor; ties round to even. Before a residual is added, a model may round
to bytes as well: then the rounded number, within limits of its own, times `inner_scale`, is what is added to.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from cpuruntime.compiler.isa import current
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

    def half(self, name: str) -> ir.Value:
        """A number in all 16-bit elements."""
        at = self._builder.add(self._address, ir.Constant(I64, LIMITS.fields[name][1]))
        kind = ir.IntType(16)
        value = self._builder.load(pointer(self._builder, at, kind), align=2)
        return repeated(self._builder, value, ir.VectorType(kind, 2 * LANES))

    def byte(self, name: str, vector: ir.VectorType) -> ir.Value:
        """A byte in all elements of a vector of bytes."""
        at = self._builder.add(self._address, ir.Constant(I64, LIMITS.fields[name][1]))
        return repeated(self._builder, self._builder.load(pointer(self._builder, at, I8), align=1), vector)

    def has(self, name: str) -> ir.Value:
        """Whether a whole number is not 0."""
        at = self._builder.add(self._address, ir.Constant(I64, LIMITS.fields[name][1]))
        number = self._builder.load(pointer(self._builder, at, I64), align=8)
        return self._builder.icmp_signed("!=", number, ir.Constant(I64, 0))


def as_floats(builder: ir.IRBuilder, total: ir.Value, multiplier: ir.Value) -> ir.Value:
    """sum * multiplier."""
    return builder.fmul(builder.sitofp(total, FLOATS), multiplier)


def limited(builder: ir.IRBuilder, value: ir.Value, limits: Limits, prefix: str = "") -> ir.Value:
    """A float32 result within its limits, or those of another prefix; keeps a NaN."""
    low, high = limits.number(f"{prefix}low"), limits.number(f"{prefix}high")
    value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
    return builder.select(builder.fcmp_ordered("<", high, value), high, value)


def shifted(
    builder: ir.IRBuilder, values: list[ir.Value], bias: Callable[[int], ir.Value], limits: Limits, residual: ir.Value,
    place: Callable[[int], ir.Value],
) -> list[ir.Value]:  # fmt: skip
    """Float32 results with their biases, where there are any, and with a residual, where its address is not 0.

    `bias(i)` loads the bias of result i, `place(i)` is where its residual lies.
    """
    slots = [cgutils.alloca_once_value(builder, value) for value in values]

    def change(how: Callable[[int, ir.Value], ir.Value]) -> None:
        for i, slot in enumerate(slots):
            builder.store(how(i, builder.load(slot)), slot)

    with builder.if_then(limits.has("has_bias")):
        change(lambda i, value: builder.fadd(value, bias(i)))
    with builder.if_then(limits.has("has_inner")):
        change(lambda i, value: _inner(builder, value, limits))
    with builder.if_then(builder.icmp_signed("!=", residual, ir.Constant(I64, 0))):
        change(lambda i, value: builder.fadd(value, _residual_at(builder, place(i), limits)))
    return [builder.load(slot) for slot in slots]


def _inner(builder: ir.IRBuilder, value: ir.Value, limits: Limits) -> ir.Value:
    """A result rounded to bytes, as the numbers that these stand for, in steps of the final result."""
    whole = rounded(builder, limited(builder, value, limits, "inner_"))
    return builder.fmul(builder.sitofp(whole, FLOATS), limits.number("inner_scale"))


def _residual_at(builder: ir.IRBuilder, address: ir.Value, limits: Limits) -> ir.Value:
    """What the bytes of a residual at an address add."""
    words = builder.zext(builder.load(pointer(builder, address, BYTES), align=1), WORDS)
    words = builder.sub(builder.xor(words, limits.word("residual_flip")), limits.word("residual_zero"))
    return builder.fmul(builder.sitofp(words, FLOATS), limits.number("residual_scale"))


def as_bytes(builder: ir.IRBuilder, values: list[ir.Value], limits: Limits) -> list[ir.Value]:
    """Vectors of float32 results as bytes."""
    return [_part(builder, packed, i) for packed in as_packed(builder, values, limits) for i in range(_count(packed))]


def as_packed(builder: ir.IRBuilder, values: list[ir.Value], limits: Limits) -> list[ir.Value]:
    """Vectors of float32 results as bytes, up to four in a vector: packed by the saturating instructions there are."""
    words = [rounded(builder, value) for value in values]
    found: list[ir.Value] = []
    while words:
        count = 4 if len(words) >= 4 else 2 if len(words) >= 2 else 1
        group, words = words[:count], words[count:]
        if count == 4 and current().name in _PACKS:
            packed = _four_packed(builder, group, limits.half("zero"))
        else:
            wide = [builder.add(word, limits.word("zero")) for word in group]
            while len(wide) > 1:
                wide = [_joined(builder, a, b) for a, b in zip(wide[::2], wide[1::2])]
            packed = _saturated(builder, wide[0])
        least, most, flip = (limits.byte(name, packed.type) for name in ("least", "most", "flip"))
        packed = builder.select(builder.icmp_unsigned(">", packed, least), packed, least)
        packed = builder.select(builder.icmp_unsigned("<", packed, most), packed, most)
        found.append(builder.xor(packed, flip))
    return found


def _count(packed: ir.Value) -> int:
    return int(packed.type.count) // LANES


_PACKS = {
    "avx512": ("avx512.packssdw.512", "avx512.packuswb.512"),
    "avx2": ("avx2.packssdw", "avx2.packuswb"),
    "generic": ("sse2.packssdw.128", "sse2.packuswb.128"),
}


def _four_packed(builder: ir.IRBuilder, words: list[ir.Value], zero: ir.Value) -> ir.Value:
    """int32 + zero as unsigned bytes. Instructions pack parts of 16 bytes, which are put in order at the end."""
    halves, octets = zero.type, ir.VectorType(I8, 4 * LANES)
    to_halves, to_octets = (f"llvm.x86.{name}" for name in _PACKS[current().name])
    pairs = [call_llvm(builder, to_halves, halves, list(two)) for two in (words[:2], words[2:])]
    pairs = [call_llvm(builder, f"llvm.sadd.sat.v{2 * LANES}i16", halves, [pair, zero]) for pair in pairs]
    packed = builder.bitcast(call_llvm(builder, to_octets, octets, pairs), WORDS)
    parts = LANES // 4
    order = ir.Constant(WORDS, [4 * (i % parts) + i // parts for i in range(LANES)])
    return builder.bitcast(builder.shuffle_vector(packed, ir.Constant(WORDS, ir.Undefined), order), octets)


def _joined(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    count = 2 * a.type.count
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, count), list(range(count))))


def _saturated(builder: ir.IRBuilder, words: ir.Value) -> ir.Value:
    """int32 as unsigned bytes, those out of range as the nearest."""
    least, most = (ir.Constant(words.type, [number] * words.type.count) for number in (0, 255))
    words = builder.select(builder.icmp_signed(">", words, least), words, least)
    words = builder.select(builder.icmp_signed("<", words, most), words, most)
    return builder.trunc(words, ir.VectorType(I8, words.type.count))


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
    align = 4 if value.type in (FLOATS, WORDS) else 1
    if tail is None:
        builder.store(value, at, align=align)
        return
    whole = builder.icmp_signed(">=", tail, ir.Constant(I64, LANES))
    with builder.if_else(whole) as (all_lanes, some):
        with all_lanes:
            builder.store(value, at, align=align)
        with some:
            masked_store(builder, address, value, first_lanes(builder, tail))
