"""Vectors of bytes as vectors of float32 and int32. Importing this module loads the compiler."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.shuffle import row_addresses, transposed
from cpuruntime.compiler.simd import (
    BYTES,
    FLOATS,
    I8,
    I32,
    I64,
    WORDS,
    f32s,
    first_lanes,
    i32s,
    masked_load,
    masked_store,
    operation,
    pointer,
    splat,
)


@operation(f32s, types.int64)
def load_bytes(builder, address):
    """LANES unsigned bytes from any address on, as float32."""
    return builder.uitofp(builder.load(pointer(builder, address, BYTES), align=1), FLOATS)


def _words(signed: bool) -> tuple[Any, Any, Any]:
    """LANES bytes from any address on as int32; the first `count`, zeros behind them; one byte in all lanes."""

    def extend(builder: ir.IRBuilder, value: ir.Value, kind: ir.Type = WORDS) -> ir.Value:
        return builder.sext(value, kind) if signed else builder.zext(value, kind)

    @operation(i32s, types.int64)
    def load(builder, address):
        return extend(builder, builder.load(pointer(builder, address, BYTES), align=1))

    @operation(i32s, types.int64, types.int64)
    def load_first(builder, address, count):
        return extend(builder, masked_load(builder, address, BYTES, first_lanes(builder, count)))

    @operation(i32s, types.int64)
    def load_same(builder, address):
        byte = builder.load(pointer(builder, address, I8), align=1)
        return splat(builder, extend(builder, byte, I32))

    return load, load_first, load_same


load_words, load_first_words, load_same_words = _words(signed=False)
load_signed, load_first_signed, load_same_signed = _words(signed=True)


@operation(types.void, types.int64, i32s)
def store_words(builder, address, value):
    """Writes the lowest bytes of int32 lanes at any address."""
    builder.store(builder.trunc(value, BYTES), pointer(builder, address, BYTES), align=1)


@operation(types.void, types.int64, i32s, types.int64)
def store_first_words(builder, address, value, count):
    """Writes the lowest bytes of the first `count` lanes; no other memory is touched."""
    masked_store(builder, address, builder.trunc(value, BYTES), first_lanes(builder, count))


@operation(types.void, *[types.int64] * 4)
def transpose(builder, source, source_stride, target, target_stride):
    """Transposes LANES x LANES bytes; strides are the byte distances of rows."""
    rows = [
        builder.zext(builder.load(pointer(builder, row, BYTES), align=1), WORDS)
        for row in row_addresses(builder, source, source_stride, LANES)
    ]
    for column, row in zip(transposed(builder, rows), row_addresses(builder, target, target_stride, LANES)):
        builder.store(builder.trunc(column, BYTES), pointer(builder, row, BYTES), align=1)


FEW = 4


@operation(types.void, *[types.int64] * 4)
def interleave(builder, source, stride, count, target):
    """Writes LANES pixels of LANES bytes from 1..FEW rows of LANES bytes; what lies behind these in a pixel is any."""
    rows = []
    for i in range(FEW):
        exists = builder.icmp_signed(">", count, ir.Constant(I64, i))
        offset = builder.select(exists, builder.mul(stride, ir.Constant(I64, i)), ir.Constant(I64, 0))
        rows.append(builder.load(pointer(builder, builder.add(source, offset), BYTES), align=1))

    def shuffled(a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    halves = [shuffled(a, b, list(range(2 * LANES))) for a, b in (rows[:2], rows[2:])]
    pixels = shuffled(*halves, [row * LANES + i for i in range(LANES) for row in range(FEW)])
    pixels, part = builder.bitcast(pixels, WORDS), LANES // FEW
    for first in range(0, LANES, FEW):
        lanes = [first + i // part if i % part == 0 else LANES for i in range(LANES)]
        at = builder.add(target, ir.Constant(I64, first * LANES))
        vector = shuffled(pixels, ir.Constant(WORDS, None), lanes)
        builder.store(vector, pointer(builder, at, WORDS), align=1)


@operation(types.void, *[types.int64] * 3)
def look_up8(builder, source, table, target):
    """Writes what a table of 256 bytes has for each of 8 bytes from any address on."""
    word, result = builder.load(pointer(builder, source, I64), align=1), ir.Constant(I64, 0)
    for shift in range(0, 64, 8):
        index = builder.and_(builder.lshr(word, ir.Constant(I64, shift)), ir.Constant(I64, 255))
        byte = builder.load(pointer(builder, builder.add(table, index), I8), align=1)
        result = builder.or_(result, builder.shl(builder.zext(byte, I64), ir.Constant(I64, shift)))
    builder.store(result, pointer(builder, target, I64), align=1)
