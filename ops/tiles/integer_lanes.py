"""Moves activations into the panels that integer tiles read. Importing this module loads the compiler."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.simd import BYTES, I8, LANES, i32s, operation, pointer, splat
from cpuruntime.ops.tiles.integer_tile import OCTETS, dot_bytes
from cpuruntime.ops.tiles.requantise import repeated

I16 = ir.IntType(16)
HALVES = ir.VectorType(I16, LANES)


@cache
def make_moves(wide: bool) -> tuple[Any, Any]:
    """`move(target, source, flip, zero)` of LANES bytes and of one.

    Bytes are made unsigned by `flip` (0 or 128). They stay bytes, or become 16-bit numbers less `zero` when `wide`.
    """

    @operation(types.void, types.int64, types.int64, types.int64, types.int64)
    def vector(builder, target, source, flip, zero):
        value = builder.load(pointer(builder, source, BYTES), align=1)
        value = builder.xor(value, splat(builder, builder.trunc(flip, I8)))
        if wide:
            value = builder.sub(builder.zext(value, HALVES), splat(builder, builder.trunc(zero, I16)))
        builder.store(value, pointer(builder, target, value.type), align=1)

    @operation(types.void, types.int64, types.int64, types.int64, types.int64)
    def single(builder, target, source, flip, zero):
        value = builder.xor(builder.load(pointer(builder, source, I8), align=1), builder.trunc(flip, I8))
        if wide:
            value = builder.sub(builder.zext(value, I16), builder.trunc(zero, I16))
        builder.store(value, pointer(builder, target, value.type), align=1)

    return vector, single


def move_vector(wide: bool) -> Any:
    """The move of LANES bytes, see `make_moves`."""
    return make_moves(wide)[0]


def move_byte(wide: bool) -> Any:
    """The move of one byte, see `make_moves`."""
    return make_moves(wide)[1]


@operation(types.void, types.int64, types.int64, types.int64)
def move_wide(builder, target, source, flip):
    """The move of 4 * LANES bytes that stay bytes."""
    vector = ir.VectorType(I8, 4 * LANES)
    value = builder.load(pointer(builder, source, vector), align=1)
    value = builder.xor(value, repeated(builder, builder.trunc(flip, I8), vector))
    builder.store(value, pointer(builder, target, vector), align=1)


@operation(i32s, i32s, types.int64)
def add_bytes(builder, total, address):
    """`total` plus 4 * LANES unsigned bytes, four in each lane."""
    numbers = builder.load(pointer(builder, address, OCTETS), align=1)
    return dot_bytes(builder, total, numbers, ir.Constant(OCTETS, [1] * (4 * LANES)))


@operation(types.void, types.int64, types.int64)
def fill_bytes(builder, target, value):
    """Writes LANES bytes of one value."""
    vector = splat(builder, builder.trunc(value, I8))
    builder.store(vector, pointer(builder, target, BYTES), align=1)


@operation(types.void, types.int64, types.int64)
def store_half(builder, target, value):
    """Writes the lowest 16 bits of a number."""
    builder.store(builder.trunc(value, I16), pointer(builder, target, I16), align=1)


@operation(types.void, *[types.int64] * 6)
def store_quads(builder, target, first, second, third, fourth, flip):
    """Writes LANES bytes from each of four addresses, exclusive or `flip`, as quads of bytes."""
    pairs = []
    for addresses in ((first, second), (third, fourth)):
        bytes_ = [builder.load(pointer(builder, address, BYTES), align=1) for address in addresses]
        both = _interleaved(builder, *bytes_)
        pairs.append(builder.bitcast(both, HALVES))
    quads = builder.bitcast(_interleaved(builder, *pairs), ir.VectorType(I8, 4 * LANES))
    quads = builder.xor(quads, repeated(builder, builder.trunc(flip, I8), quads.type))
    builder.store(quads, pointer(builder, target, quads.type), align=1)


def _interleaved(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> ir.Value:
    """Elements of both vectors in turns."""
    order = [LANES * (i % 2) + i // 2 for i in range(2 * LANES)]
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), order))


@operation(types.void, *[types.int64] * 5)
def store_pairs(builder, target, first, second, flip, zero):
    """Writes LANES bytes from each of two addresses, less `zero`, as pairs of 16-bit numbers."""
    bytes_ = [builder.load(pointer(builder, address, BYTES), align=1) for address in (first, second)]
    both = _interleaved(builder, *bytes_)
    wide = ir.VectorType(I16, 2 * LANES)
    values = builder.zext(both, wide)
    for how, number in ((builder.xor, flip), (builder.sub, zero)):
        values = how(values, repeated(builder, builder.trunc(number, I16), wide))
    builder.store(values, pointer(builder, target, wide), align=1)
