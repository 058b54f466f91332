"""Moves between and within vectors: tile transposes, interleaving, lane shifts and permutes, unaligned copies.

Loads the compiler; kernels reach it through `lazy("cpuruntime.compiler.shuffle")`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.simd import (
    FLOATS,
    I32,
    I64,
    WORDS,
    call_llvm,
    f32s,
    first_lanes,
    i32s,
    masked_load,
    masked_store,
    operation,
    pointer,
    splat,
)

QUARTER = 4


def _pick(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    """The chosen lanes of a (0..LANES-1) and b (LANES..2*LANES-1)."""
    return builder.shuffle_vector(a, b, ir.Constant(WORDS, lanes))


def _unpack(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: tuple[int, ...]) -> ir.Value:
    """In every group of four lanes the lanes `order`: 0..3 of a, 4..7 of b."""
    lanes = [i % QUARTER + i // QUARTER * LANES + g for g in range(0, LANES, QUARTER) for i in order]
    return _pick(builder, a, b, lanes)


def _quarters(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Transposes as if the groups of four lanes were the elements of `rows`, a square matrix of 1, 2 or 4."""
    groups = len(rows)

    def pair(a: ir.Value, b: ir.Value, first: int) -> ir.Value:
        """Every second group of a and b, from group `first` on."""
        lanes = [g * QUARTER + lane for g in range(first, 2 * groups, 2) for lane in range(QUARTER)]
        return _pick(builder, a, b, lanes)

    if groups == 1:
        return rows
    even, odd = ([pair(a, b, first) for a, b in zip(rows[::2], rows[1::2])] for first in (0, 1))
    if groups == 2:
        return even + odd
    return [pair(*halves, first) for first in (0, 1) for halves in (even, odd)]


def transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of LANES vectors, through transposes of 4 x 4 elements and of groups of four."""
    tiles = []
    for first in range(0, LANES, QUARTER):
        a, b, c, d = rows[first : first + QUARTER]
        halves = [
            [_unpack(builder, x, y, order) for x, y in ((a, b), (c, d))] for order in ((0, 4, 1, 5), (2, 6, 3, 7))
        ]
        tiles.append([_unpack(builder, x, y, order) for x, y in halves for order in ((0, 1, 4, 5), (2, 3, 6, 7))])
    groups = [_quarters(builder, [tile[k] for tile in tiles]) for k in range(QUARTER)]
    return [group[i] for i in range(LANES // QUARTER) for group in groups]


def row_addresses(builder: ir.IRBuilder, start: ir.Value, stride: ir.Value, count: int) -> list[ir.Value]:
    """The addresses of `count` rows."""
    return [builder.add(start, builder.mul(ir.Constant(I64, i), stride)) for i in range(count)]


def _load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.load(pointer(builder, address, FLOATS), align=4)


def _store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, pointer(builder, address, FLOATS), align=4)


@operation(types.void, *[types.int64] * 4)
def transpose(builder, source, source_stride, target, target_stride):
    """Transposes LANES x LANES 4-byte elements; strides are the byte distances of rows."""
    columns = transposed(builder, [_load(builder, row) for row in row_addresses(builder, source, source_stride, LANES)])
    for column, row in zip(columns, row_addresses(builder, target, target_stride, LANES)):
        _store(builder, column, row)


@operation(types.void, *[types.int64] * 7)
def transpose_part(builder, source, source_stride, target, target_stride, rows, columns, lanes):
    """Transposes `rows` x `columns` 4-byte elements (1..LANES each).

    Writes `lanes` elements (rows..LANES) of each of the `columns` target rows, zeros behind the source's.
    """
    zero = ir.Constant(I64, 0)
    last = builder.sub(rows, ir.Constant(I64, 1))
    values = []
    for i in range(LANES):
        index = ir.Constant(I64, i)
        inside = builder.icmp_signed("<", index, rows)
        address = builder.add(source, builder.mul(builder.select(inside, index, last), source_stride))
        count = builder.select(inside, columns, zero)
        values.append(masked_load(builder, address, FLOATS, first_lanes(builder, count)))
    mask = first_lanes(builder, lanes)
    rows_of_target = row_addresses(builder, target, target_stride, LANES)
    for i, (column, row) in enumerate(zip(transposed(builder, values), rows_of_target)):
        with builder.if_then(builder.icmp_signed("<", ir.Constant(I64, i), columns)):
            masked_store(builder, row, column, mask)


def interleave(planes: int) -> Any:
    """An intrinsic (source, plane, target): LANES elements from each of `planes` (1..4) addresses `plane` bytes apart.

    They are written as LANES pixels of `planes` elements each.
    """

    @operation(types.void, *[types.int64] * 3)
    def write(builder, source, plane, target):
        parts = [_load(builder, row) for row in row_addresses(builder, source, plane, planes)]
        for k in range(planes):
            places = [divmod(k * LANES + lane, planes) for lane in range(LANES)]
            vector = _pick(builder, parts[0], parts[0], [pixel if i == 0 else 0 for pixel, i in places])
            for part in range(1, planes):
                lanes = [LANES + pixel if i == part else lane for lane, (pixel, i) in enumerate(places)]
                vector = _pick(builder, vector, parts[part], lanes)
            _store(builder, vector, builder.add(target, ir.Constant(I64, k * LANES * 4)))

    return write


interleave1, interleave2, interleave3, interleave4 = (interleave(planes) for planes in (1, 2, 3, 4))


@operation(f32s, f32s, f32s)
def shift_down(builder, a, b):
    """Lanes 1.. of a, then lane 0 of b."""
    return _pick(builder, a, b, list(range(1, LANES + 1)))


@operation(f32s, f32s, f32s)
def shift_up(builder, a, b):
    """The last lane of a, then all lanes of b but the last."""
    return _pick(builder, a, b, list(range(LANES - 1, 2 * LANES - 1)))


@operation(f32s, f32s, i32s)
def permute(builder, vector, lanes):
    """The lanes of `vector` that the words `lanes` (0..LANES-1) name."""
    if LANES == 16:
        return call_llvm(builder, "llvm.x86.avx512.permvar.sf.512", FLOATS, [vector, lanes])
    if LANES == 8:
        return call_llvm(builder, "llvm.x86.avx2.permps", FLOATS, [vector, lanes])
    result = _pick(builder, vector, vector, [0] * LANES)
    for lane in range(1, LANES):
        wanted = builder.icmp_signed("==", lanes, splat(builder, ir.Constant(I32, lane)))
        result = builder.select(wanted, _pick(builder, vector, vector, [lane] * LANES), result)
    return result


@operation(i32s)
def lane_numbers(builder):
    """0, 1, 2, ... as words."""
    return ir.Constant(WORDS, list(range(LANES)))


@operation(i32s, types.int64)
def load_words(builder, address):
    """One vector of 4-byte words at any address."""
    return builder.load(pointer(builder, address, WORDS), align=1)


@operation(types.void, types.int64, i32s)
def store_words(builder, address, value):
    """Writes one vector of 4-byte words at any address."""
    builder.store(value, pointer(builder, address, WORDS), align=1)


@operation(types.void, types.int64, types.int64)
def store_pattern(builder, address, value):
    """Writes an int64 at any address."""
    builder.store(value, pointer(builder, address, I64), align=1)


def _copy(element: ir.Type) -> Any:
    @operation(types.void, types.int64, types.int64)
    def copy(builder, source, target):
        value = builder.load(pointer(builder, source, element), align=1)
        builder.store(value, pointer(builder, target, element), align=1)

    return copy


copy1, copy2, copy4, copy8 = (_copy(ir.IntType(bits)) for bits in (8, 16, 32, 64))
