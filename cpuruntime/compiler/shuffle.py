"""Moves between and within vectors: tile transposes, interleaving, lane shifts and permutes, unaligned copies.

Loads the compiler; kernels reach it through `lazy("cpuruntime.compiler.shuffle")`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.simd import FLOATS, I32, I64, WORDS, call_llvm, f32s, first_lanes, i32s, pointer, splat

QUARTER = 4


def _pick(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    """The chosen lanes of a (0..LANES-1) and b (LANES..2*LANES-1)."""
    return builder.shuffle_vector(a, b, ir.Constant(WORDS, lanes))


def _unpack(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: tuple[int, ...]) -> ir.Value:
    """In every group of four lanes the lanes `order`: 0..3 of a, 4..7 of b."""
    lanes = [i % QUARTER + i // QUARTER * LANES + g for g in range(0, LANES, QUARTER) for i in order]
    return _pick(builder, a, b, lanes)


def _quarters(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Transposes as if the groups of four lanes were the elements of `rows`, a square matrix."""
    if len(rows) == 1:
        return rows
    half = len(rows) // 2
    groups = len(rows)

    def pairs(first: int) -> list[ir.Value]:
        wanted = [g * QUARTER + lane for g in range(first, 2 * groups, 2) for lane in range(QUARTER)]
        return [_pick(builder, rows[2 * i], rows[2 * i + 1], wanted) for i in range(half)]

    if groups == 2:
        return pairs(0) + pairs(1)
    even, odd = pairs(0), pairs(1)
    result: list[Any] = [None] * groups
    for first, (a, b) in enumerate((even, odd)):
        for second in range(2):
            wanted = [g * QUARTER + lane for g in range(second, 2 * groups, 2) for lane in range(QUARTER)]
            result[2 * second + first] = _pick(builder, a, b, wanted)
    return result


def _transpose(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of LANES vectors, through transposes of 4 x 4 elements and of groups of four."""
    columns: list[Any] = [None] * LANES
    tiles = []
    for first in range(0, LANES, QUARTER):
        a, b, c, d = rows[first : first + QUARTER]
        ab, cd = (_unpack(builder, x, y, (0, 4, 1, 5)) for x, y in ((a, b), (c, d)))
        ab_high, cd_high = (_unpack(builder, x, y, (2, 6, 3, 7)) for x, y in ((a, b), (c, d)))
        low, high = (0, 1, 4, 5), (2, 3, 6, 7)
        tiles.append([_unpack(builder, x, y, z) for x, y in ((ab, cd), (ab_high, cd_high)) for z in (low, high)])
    for k in range(QUARTER):
        for group, column in enumerate(_quarters(builder, [tile[k] for tile in tiles])):
            columns[group * QUARTER + k] = column
    return columns


def _offset(builder: ir.IRBuilder, address: ir.Value, index: ir.Value | int, stride: ir.Value) -> ir.Value:
    if isinstance(index, int):
        index = ir.Constant(I64, index)
    return builder.add(address, builder.mul(index, stride))


@intrinsic
def transpose(typingctx, source, source_stride, target, target_stride):
    """Transposes LANES x LANES 4-byte elements; strides are the byte distances of rows."""

    def codegen(context, builder, sig, args):
        source, source_stride, target, target_stride = args
        rows = [
            builder.load(pointer(builder, _offset(builder, source, i, source_stride), FLOATS), align=4)
            for i in range(LANES)
        ]
        for i, column in enumerate(_transpose(builder, rows)):
            builder.store(column, pointer(builder, _offset(builder, target, i, target_stride), FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def _limited(builder: ir.IRBuilder, value: ir.Value, limit: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed("<", value, limit), value, limit)


@intrinsic
def transpose_part(typingctx, source, source_stride, target, target_stride, rows, columns, lanes):
    """Transposes `rows` x `columns` 4-byte elements (1..LANES each).

    Writes `lanes` elements (rows..LANES) of each of the `columns` target rows, zeros behind the source's.
    """

    def codegen(context, builder, sig, args):
        source, source_stride, target, target_stride, rows, columns, lanes = args
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        last = builder.sub(rows, one)
        values = []
        for i in range(LANES):
            index = ir.Constant(I64, i)
            address = _offset(builder, source, _limited(builder, index, last), source_stride)
            count = builder.select(builder.icmp_signed("<", index, rows), columns, zero)
            arguments = [pointer(builder, address, FLOATS), ir.Constant(I32, 4), first_lanes(builder, count)]
            arguments.append(ir.Constant(FLOATS, [0.0] * LANES))
            values.append(call_llvm(builder, f"llvm.masked.load.v{LANES}f32.p0", FLOATS, arguments))
        mask = first_lanes(builder, lanes)
        for i, column in enumerate(_transpose(builder, values)):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(I64, i), columns)):
                place = pointer(builder, _offset(builder, target, i, target_stride), FLOATS)
                arguments = [column, place, ir.Constant(I32, 4), mask]
                call_llvm(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def interleave(planes: int) -> Any:
    """An intrinsic (source, plane, target): LANES elements from each of `planes` (1..4) addresses `plane` bytes apart.

    They are written as LANES pixels of `planes` elements each.
    """

    @intrinsic
    def write(typingctx, source, plane, target):
        def codegen(context, builder, sig, args):
            source, plane, target = args
            parts = [
                builder.load(pointer(builder, _offset(builder, source, i, plane), FLOATS), align=4)
                for i in range(planes)
            ]
            for k in range(planes):
                places = [divmod(k * LANES + lane, planes) for lane in range(LANES)]
                vector = _pick(builder, parts[0], parts[0], [pixel if i == 0 else 0 for pixel, i in places])
                for part in range(1, planes):
                    lanes = [LANES + pixel if i == part else lane for lane, (pixel, i) in enumerate(places)]
                    vector = _pick(builder, vector, parts[part], lanes)
                address = builder.add(target, ir.Constant(I64, k * LANES * 4))
                builder.store(vector, pointer(builder, address, FLOATS), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), codegen

    return write


interleave1, interleave2, interleave3, interleave4 = (interleave(planes) for planes in (1, 2, 3, 4))


@intrinsic
def shift_down(typingctx, a, b):
    """Lanes 1.. of a, then lane 0 of b."""

    def codegen(context, builder, sig, args):
        return _pick(builder, *args, list(range(1, LANES + 1)))

    return f32s(f32s, f32s), codegen


@intrinsic
def shift_up(typingctx, a, b):
    """The last lane of a, then all lanes of b but the last."""

    def codegen(context, builder, sig, args):
        return _pick(builder, *args, list(range(LANES - 1, 2 * LANES - 1)))

    return f32s(f32s, f32s), codegen


@intrinsic
def permute(typingctx, a, lanes):
    """The lanes of a that the words `lanes` (0..LANES-1) name."""

    def codegen(context, builder, sig, args):
        vector, lanes = args
        if LANES == 16:
            return call_llvm(builder, "llvm.x86.avx512.permvar.sf.512", FLOATS, [vector, lanes])
        if LANES == 8:
            return call_llvm(builder, "llvm.x86.avx2.permps", FLOATS, [vector, lanes])
        result = _pick(builder, vector, vector, [0] * LANES)
        for lane in range(1, LANES):
            wanted = builder.icmp_signed("==", lanes, splat(builder, ir.Constant(I32, lane)))
            result = builder.select(wanted, _pick(builder, vector, vector, [lane] * LANES), result)
        return result

    return f32s(f32s, i32s), codegen


@intrinsic
def lane_numbers(typingctx):
    """0, 1, 2, ... as words."""

    def codegen(context, builder, sig, args):
        return ir.Constant(WORDS, list(range(LANES)))

    return i32s(), codegen


@intrinsic
def load_words(typingctx, address):
    """One vector of 4-byte words at any address."""

    def codegen(context, builder, sig, args):
        return builder.load(pointer(builder, args[0], WORDS), align=1)

    return i32s(types.int64), codegen


@intrinsic
def store_words(typingctx, address, value):
    """Writes one vector of 4-byte words at any address."""

    def codegen(context, builder, sig, args):
        builder.store(args[1], pointer(builder, args[0], WORDS), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, i32s), codegen


def _copy(element: ir.Type) -> Any:
    @intrinsic
    def copy(typingctx, source, target):
        def codegen(context, builder, sig, args):
            value = builder.load(pointer(builder, args[0], element), align=1)
            builder.store(value, pointer(builder, args[1], element), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return copy


@intrinsic
def store_pattern(typingctx, address, value):
    """Writes an int64 at any address."""

    def codegen(context, builder, sig, args):
        builder.store(args[1], pointer(builder, args[0], I64), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


copy1, copy2, copy4, copy8 = (_copy(ir.IntType(bits)) for bits in (8, 16, 32, 64))
