"""The tile registers of AMX, never tested on a processor that has them. Importing this module loads the compiler.

A tile is 16 rows of 64 bytes: rows of a left side, words of four bytes or two bf16 numbers of a right side in 16
columns, or 16x16 sums. Where the processor lacks the instructions memory stands for the registers, so that the same
kernels give the same numbers everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from cpuruntime.compiler.simd import F32, I8, I32, I64, call_llvm, operation, pointer
from cpuruntime.ops.tiles.integer_shapes import SIDE, TILE_BYTES

REGISTERS = 8
CONFIGURATION = [1, *[0] * 15, *[TILE_BYTES, 0] * REGISTERS, *[0] * 16, *[SIDE] * REGISTERS, *[0] * 8]
"""What ldtilecfg reads: the palette, for each register the bytes of a row (16 bits), and its rows."""

ROW, FLOATS = ir.VectorType(I32, SIDE), ir.VectorType(F32, SIDE)


@cache
def make_begin(is_native: bool) -> Any:
    """An intrinsic that makes each tile register of the thread 16 rows of 64 bytes."""

    @operation(types.void)
    def begin(builder):
        if is_native:
            words = ir.Constant(ir.VectorType(I8, len(CONFIGURATION)), CONFIGURATION)
            call_llvm(builder, "llvm.x86.ldtilecfg", ir.VoidType(), [cgutils.alloca_once_value(builder, words)])

    return begin


@cache
def make_end(is_native: bool) -> Any:
    """An intrinsic that clears the tile registers: then there is nothing that Linux has to save for the thread."""

    @operation(types.void)
    def end(builder):
        if is_native:
            call_llvm(builder, "llvm.x86.tilerelease", ir.VoidType(), [])

    return end


class Registers:
    """The tile registers, by number."""

    def __init__(self, builder: ir.IRBuilder, products: str):
        """`products` is the instruction that multiplies: tdpbusd or tdpbf16ps."""
        self.builder, self.products = builder, products

    def _call(self, name: str, *tiles: int, more: tuple[ir.Value, ...] = ()) -> None:
        numbers = [ir.Constant(I8, tile) for tile in tiles]
        call_llvm(self.builder, f"llvm.x86.{name}", ir.VoidType(), [*numbers, *more])

    def zero(self, tile: int) -> None:
        self._call("tilezero", tile)

    def load(self, tile: int, address: ir.Value, step: ir.Value) -> None:
        """Reads rows that lie `step` bytes apart."""
        self._call("tileloadd64", tile, more=(pointer(self.builder, address, I8), step))

    def store(self, tile: int, address: ir.Value, step: ir.Value) -> None:
        """Writes rows `step` bytes apart."""
        self._call("tilestored64", tile, more=(pointer(self.builder, address, I8), step))

    def multiply(self, sums: int, left: int, right: int) -> None:
        """Adds the products of two tiles to a third one."""
        self._call(self.products, sums, left, right)


class Memory(Registers):
    """Memory in their place."""

    def __init__(self, builder: ir.IRBuilder, products: str):
        super().__init__(builder, products)
        tiles = [cgutils.alloca_once(builder, ir.ArrayType(ROW, SIDE)) for _ in range(REGISTERS)]
        self._tiles = [builder.ptrtoint(tile, I64) for tile in tiles]

    def _at(self, base: ir.Value, index: ir.Value, step: ir.Value | int, kind: ir.Type) -> ir.Value:
        step = ir.Constant(I64, step) if isinstance(step, int) else step
        return pointer(self.builder, self.builder.add(base, self.builder.mul(index, step)), kind)

    def _copy(self, to: ir.Value, to_step: Any, source: ir.Value, step: Any) -> None:
        builder = self.builder
        with cgutils.for_range(builder, ir.Constant(I64, SIDE)) as row:
            line = builder.load(self._at(source, row.index, step, ROW), align=1)
            builder.store(line, self._at(to, row.index, to_step, ROW), align=1)

    def zero(self, tile: int) -> None:
        with cgutils.for_range(self.builder, ir.Constant(I64, SIDE)) as row:
            at = self._at(self._tiles[tile], row.index, TILE_BYTES, ROW)
            self.builder.store(ir.Constant(ROW, None), at, align=1)

    def load(self, tile: int, address: ir.Value, step: ir.Value) -> None:
        self._copy(self._tiles[tile], TILE_BYTES, address, step)

    def store(self, tile: int, address: ir.Value, step: ir.Value) -> None:
        self._copy(address, step, self._tiles[tile], TILE_BYTES)

    def multiply(self, sums: int, left: int, right: int) -> None:
        builder, count = self.builder, ir.Constant(I64, SIDE)
        dot = _dot_bytes if self.products == "tdpbusd" else _dot_bf16
        with cgutils.for_range(builder, count) as row, cgutils.for_range(builder, count) as k:
            line = builder.mul(row.index, ir.Constant(I64, TILE_BYTES))
            a = builder.load(self._at(builder.add(self._tiles[left], line), k.index, 4, I32), align=1)
            words = builder.insert_element(ir.Constant(ROW, ir.Undefined), a, ir.Constant(I32, 0))
            words = builder.shuffle_vector(words, ir.Constant(ROW, ir.Undefined), ir.Constant(ROW, None))
            b = builder.load(self._at(self._tiles[right], k.index, TILE_BYTES, ROW), align=1)
            at = self._at(self._tiles[sums], row.index, TILE_BYTES, ROW)
            builder.store(dot(builder, builder.load(at, align=1), words, b), at, align=1)


def _dot_bytes(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """total + the four products of unsigned by signed bytes of each lane."""
    for k in range(4):
        low, high = (ir.Constant(ROW, [bits] * SIDE) for bits in (8 * k, 24 - 8 * k))
        unsigned = builder.and_(builder.lshr(a, low), ir.Constant(ROW, [255] * SIDE))
        signed = builder.ashr(builder.shl(b, high), ir.Constant(ROW, [24] * SIDE))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


def _dot_bf16(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """total + the two products of bf16 numbers of each lane; all sums are float32."""
    result = builder.bitcast(total, FLOATS)
    for k in range(2):
        high = ir.Constant(ROW, [16 - 16 * k] * SIDE)
        numbers = [builder.and_(builder.shl(each, high), ir.Constant(ROW, [0xFFFF0000] * SIDE)) for each in (a, b)]
        factors = [builder.bitcast(number, FLOATS) for number in numbers]
        result = call_llvm(builder, f"llvm.fmuladd.v{SIDE}f32", FLOATS, [*factors, result])
    return builder.bitcast(result, ROW)
