"""One row by a panel of compressed weights, and the panel as float32. Importing this module loads the compiler.

Integer weights are multiplied with 16-bit numbers in pairs (vpmaddwd), and each group's sum is scaled. Two weights of a
lane at a time become 16-bit numbers by a mask: that takes fewer instructions than one conversion for each vector.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LINE, VECTOR_BYTES
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
    i32s,
    operation,
    pointer,
    splat,
)
from cpuruntime.ops.tiles.compressed_shapes import BITS, COLUMNS, FACTS, is_integer, per_word, shifts
from cpuruntime.ops.tiles.integer_tile import HALVES, held, pairs
from cpuruntime.ops.tiles.register_tile import Emitter, Epilogue

I16 = ir.IntType(16)
SHORTS = ir.VectorType(I16, LANES)
AHEAD = 1024
"""Bytes of a panel that are fetched before they are read."""


@operation(types.void, types.int64, i32s)
def store_shorts(builder, address, value):
    """Writes the lower 16 bits of each lane."""
    builder.store(builder.trunc(value, SHORTS), pointer(builder, address, SHORTS), align=2)


@operation(types.int32, i32s)
def sum_words(builder, value):
    """The sum of all lanes, which wraps."""
    return call_llvm(builder, f"llvm.vector.reduce.add.v{LANES}i32", I32, [value])


def _half_type(kind: str) -> ir.Type:
    return ir.VectorType(ir.HalfType() if kind == "f16" else I16, LANES)


def _widened(builder: ir.IRBuilder, kind: str, value: ir.Value) -> ir.Value:
    """16-bit floating point numbers as float32."""
    if kind == "f16":
        return builder.fpext(value, FLOATS)
    return builder.bitcast(builder.shl(builder.zext(value, WORDS), ir.Constant(WORDS, [16] * LANES)), FLOATS)


class _Row(Emitter):
    """Emits the product of one row by one panel; the epilogue is the register tile's."""

    def __init__(self, builder: ir.IRBuilder, kind: str, has_zeros: bool) -> None:
        super().__init__(builder, 1, COLUMNS, 1, 0)
        self.kind, self.has_zeros = kind, has_zeros

    def fetch(self, weights: ir.Value, size: int) -> None:
        how = [ir.Constant(I32, number) for number in (0, 3, 1)]
        for at in range(0, size, LINE):
            line = pointer(self.builder, self.offset(weights, (1, AHEAD + at)), I8)
            call_llvm(self.builder, "llvm.prefetch.p0", ir.VoidType(), [line, *how])

    def by_halves(self, x: ir.Value, weights: ir.Value, inner: ir.Value) -> None:
        builder, kind, size = self.builder, _half_type(self.kind), VECTOR_BYTES // 2

        def add(k: ir.Value, unroll: int) -> None:
            at, panel = self.offset(x, (k, 4)), self.offset(weights, (k, COLUMNS * size))
            self.fetch(panel, unroll * COLUMNS * size)
            for i in range(unroll):
                a = splat(builder, self.load(at, (i, 4), kind=F32))
                for c in range(COLUMNS):
                    raw = builder.load(pointer(builder, self.offset(panel, (i * COLUMNS + c, size)), kind), align=2)
                    slot = self.accumulators[0, c]
                    operands = [a, _widened(builder, self.kind, raw), builder.load(slot)]
                    builder.store(call_llvm(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, operands), slot)

        whole = builder.lshr(inner, ir.Constant(I64, 2))
        with cgutils.for_range(builder, whole) as step:
            add(builder.shl(step.index, ir.Constant(I64, 2)), 4)
        with cgutils.for_range(builder, builder.and_(inner, ir.Constant(I64, 3))) as step:
            add(builder.add(builder.shl(whole, ir.Constant(I64, 2)), step.index), 1)

    def by_groups(
        self, x: ir.Value, facts: ir.Value, weights: ir.Value, scales: ir.Value, zeros: ir.Value, zero: ir.Value,
        groups: ir.Value, words: ir.Value,
    ) -> None:  # fmt: skip
        builder = self.builder
        weight_at, x_at = (cgutils.alloca_once_value(builder, start) for start in (weights, x))
        sums = [cgutils.alloca_once(builder, WORDS) for _ in range(COLUMNS)]
        with cgutils.for_range(builder, groups) as group:
            for slot in sums:
                builder.store(ir.Constant(WORDS, None), slot)
            with cgutils.for_range(builder, words):
                self._add_words(sums, weight_at, x_at)
            fact = self.offset(facts, (group.index, FACTS))
            divisor = splat(builder, self.load(fact, kind=F32))
            total = self.load(fact, (1, 4), kind=I32)
            same = splat(builder, builder.mul(builder.trunc(zero, I32), total))
            for c, slot in enumerate(sums):
                if self.has_zeros:
                    at = self.offset(zeros, (group.index, COLUMNS * LANES), (c, LANES))
                    own = builder.zext(builder.load(pointer(builder, at, BYTES), align=1), WORDS)
                    same = builder.mul(own, splat(builder, total))
                number = builder.sitofp(builder.sub(builder.load(slot), same), FLOATS)
                scale = self.load(scales, (group.index, COLUMNS * VECTOR_BYTES), (c, VECTOR_BYTES))
                place = self.accumulators[0, c]
                operands = [number, builder.fmul(scale, divisor), builder.load(place)]
                builder.store(call_llvm(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, operands), place)

    def _add_words(self, sums: list[ir.Value], weight_at: ir.Value, x_at: ir.Value) -> None:
        """A word of each lane of the panel."""
        builder, bits = self.builder, BITS[self.kind]
        w, x = builder.load(weight_at), builder.load(x_at)
        self.fetch(w, COLUMNS * VECTOR_BYTES)
        count = per_word(self.kind) // 2
        rows = [builder.bitcast(splat(builder, self.load(x, (i, 4), kind=I32)), HALVES) for i in range(count)]
        mask = ir.Constant(HALVES, [2**bits - 1] * (2 * LANES))
        for c, slot in enumerate(sums):
            vector = builder.load(pointer(builder, self.offset(w, (c, VECTOR_BYTES)), HALVES), align=4)
            total = builder.load(slot)
            for i, row in enumerate(rows):
                part = vector if i == 0 else builder.lshr(vector, ir.Constant(HALVES, [bits * i] * (2 * LANES)))
                part = part if i == count - 1 else builder.and_(part, mask)
                total = held(builder, builder.add(total, pairs(builder, row, part)))
            builder.store(total, slot)
        builder.store(self.offset(w, (COLUMNS, VECTOR_BYTES)), weight_at)
        builder.store(self.offset(x, (count, 4)), x_at)


@cache
def make_row(kind: str, has_zeros: bool) -> Any:
    """The product of a row by a panel as an intrinsic; everything is int64.

    `row(x, facts, weights, scales, zeros, zero, groups, words, epilogue)`: the row lies at `x`, quantised for integer
    weights in so many groups of so many words, else as so many float32 as there are `groups`. The zero points are bytes
    at `zeros` if `has_zeros`, else all `zero`. `epilogue` is that of the register tile.
    """

    @intrinsic
    def row(typingctx, x, facts, weights, scales, zeros, zero, groups, words, epilogue):
        def codegen(context, builder, sig, args):
            x, facts, weights, scales, zeros, zero, groups, words = args[:8]
            emitter = _Row(builder, kind, has_zeros)
            e = Epilogue(*cgutils.unpack_tuple(builder, args[8]))
            emitter.start(e.bias)
            if is_integer(kind):
                emitter.by_groups(x, facts, weights, scales, zeros, zero, groups, words)
            else:
                emitter.by_halves(x, weights, groups)
            last = first_lanes(builder, e.tail)
            emitter.add_residual(e, last)
            emitter.clamp(e)
            emitter.write(e, last)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8, types.Tuple([types.int64] * 9)), codegen

    return row


@cache
def make_widening(kind: str, has_zeros: bool, columns: int) -> Any:
    """`widen(target, weights, scales, zeros, zero, groups, words)`: some columns of a panel as [inner][columns][LANES].

    The addresses are those of the first column; for the rest see `make_row`.
    """

    @operation(types.void, *[types.int64] * 7)
    def widen(builder, target, weights, scales, zeros, zero, groups, words):
        emitter = _Row(builder, kind, has_zeros)
        if is_integer(kind):
            _widen_groups(emitter, columns, target, weights, scales, zeros, zero, groups, words)
            return
        size, half = VECTOR_BYTES // 2, _half_type(kind)
        with cgutils.for_range(builder, groups) as k:
            for c in range(columns):
                at = emitter.offset(weights, (k.index, COLUMNS * size), (c, size))
                value = _widened(builder, kind, builder.load(pointer(builder, at, half), align=2))
                _store(emitter, value, emitter.offset(target, (k.index, columns * VECTOR_BYTES), (c, VECTOR_BYTES)))

    return widen


def _widen_groups(
    emitter: _Row, columns: int, target: ir.Value, weights: ir.Value, scales: ir.Value, zeros: ir.Value, zero: ir.Value,
    groups: ir.Value, words: ir.Value,
) -> None:  # fmt: skip
    builder, kind = emitter.builder, emitter.kind
    mask, moves = ir.Constant(WORDS, [2 ** BITS[kind] - 1] * LANES), shifts(kind)
    word_step, group_step = COLUMNS * VECTOR_BYTES, COLUMNS * LANES
    weight_at, target_at = (cgutils.alloca_once_value(builder, start) for start in (weights, target))
    with cgutils.for_range(builder, groups) as group:
        of_columns = []
        for c in range(columns):
            shift = splat(builder, builder.trunc(zero, I32))
            if emitter.has_zeros:
                at = emitter.offset(zeros, (group.index, group_step), (c, LANES))
                shift = builder.zext(builder.load(pointer(builder, at, BYTES), align=1), WORDS)
            of_columns.append((shift, emitter.load(scales, (group.index, word_step), (c, VECTOR_BYTES))))
        with cgutils.for_range(builder, words):
            w, t = builder.load(weight_at), builder.load(target_at)
            for c, (shift, scale) in enumerate(of_columns):
                word = emitter.load(w, (c, VECTOR_BYTES), kind=WORDS)
                for place, move in enumerate(moves):
                    number = builder.and_(builder.lshr(word, ir.Constant(WORDS, [move] * LANES)), mask)
                    value = builder.fmul(builder.sitofp(builder.sub(number, shift), FLOATS), scale)
                    _store(emitter, value, emitter.offset(t, (place * columns + c, VECTOR_BYTES)))
            builder.store(emitter.offset(w, (1, word_step)), weight_at)
            builder.store(emitter.offset(t, (len(moves) * columns, VECTOR_BYTES)), target_at)


def _store(emitter: Emitter, value: ir.Value, at: ir.Value) -> None:
    emitter.builder.store(value, pointer(emitter.builder, at, FLOATS), align=4)
