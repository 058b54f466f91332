"""Tiles whose sums lie in the tile registers of AMX, never tested on a processor that has them.

Weights are packed as for tiles by VNNI. Rows of the left side lie at equal distances, and each run of the reduction is
padded to whole tile registers: with weights of 0 that of bytes, with 0 on both sides that of bf16 numbers, whose
padding could be NaN. The sums go through memory to the epilogues of the other tiles, a few rows at a time. Importing
this module loads the compiler.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, bf16_tiles, byte_tiles
from cpuruntime.compiler.simd import I64, WORDS, first_lanes, pointer
from cpuruntime.ops.tiles import register_tile
from cpuruntime.ops.tiles.integer_shapes import CHANNELS, ROW_BYTES, SIDE, TILE_BYTES
from cpuruntime.ops.tiles.integer_tile import Emitter, Epilogue, Walk
from cpuruntime.ops.tiles.tile_registers import REGISTERS, Memory, Registers

GROUP = 4
"""Rows that an epilogue takes."""


def multiplied(
    tiles: Registers, rows: int, columns: int, source: ir.Value, step: ir.Value, weights: ir.Value,
    loops: tuple[ir.Value, ...],
) -> ir.Value:  # fmt: skip
    """Emits the reduction of a tile; returns the address of its sums, [rows][columns][LANES].

    `step` are the bytes between rows of the source. `loops` are height, width and whole tile registers of a run, and
    the bytes of the source between the first two.
    """
    builder, down, across = tiles.builder, rows // SIDE, columns * LANES // SIDE
    spare = REGISTERS - down * across - down
    height, width, steps, source_row, source_column = loops
    line = ir.Constant(I64, columns * VECTOR_BYTES)  # of weights, and of sums

    def moved(base: ir.Value, *terms: tuple[ir.Value, ir.Value | int]) -> ir.Value:
        for count, size in terms:
            base = builder.add(base, builder.mul(count, ir.Constant(I64, size) if isinstance(size, int) else size))
        return base

    for tile in range(down * across):
        tiles.zero(tile)
    weight_at = cgutils.alloca_once_value(builder, weights)
    with cgutils.for_range(builder, height) as y, cgutils.for_range(builder, width) as x:
        run = moved(source, (y.index, source_row), (x.index, source_column))
        with cgutils.for_range(builder, steps) as k:
            here, w = moved(run, (k.index, TILE_BYTES)), builder.load(weight_at)
            for i in range(down):
                tiles.load(down * across + i, moved(here, (step, i * SIDE)), step)
            for j in range(across):
                right = down * across + down + j % spare
                tiles.load(right, moved(w, (ir.Constant(I64, j), TILE_BYTES)), line)
                for i in range(down):
                    tiles.multiply(i * across + j, down * across + i, right)
            builder.store(moved(w, (line, SIDE)), weight_at)
    sums = builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(WORDS, rows * columns)), I64)
    for i in range(down):
        for j in range(across):
            first = ir.Constant(I64, i * SIDE * columns * VECTOR_BYTES + j * TILE_BYTES)
            tiles.store(i * across + j, builder.add(sums, first), line)
    return sums


@cache
def make_amx_tile(kind: str, rows: int, columns: int, result: str) -> Any:
    """The tile of bytes as an intrinsic, see `make_integer_tile`; its rows lie at equal distances in the panel."""

    @intrinsic
    def tile(typingctx, table, panel, weights, walk, epilogue):
        def codegen(context, builder, sig, args):
            table, panel, weights = args[:3]
            walk, e = Walk(*cgutils.unpack_tuple(builder, args[3])), Epilogue(*cgutils.unpack_tuple(builder, args[4]))
            first, second = (Emitter(builder, kind, rows, columns, table).row(r, 0) for r in range(2))
            whole = builder.add(walk.steps, ir.Constant(I64, TILE_BYTES // CHANNELS - 1))
            whole = builder.sdiv(whole, ir.Constant(I64, TILE_BYTES // CHANNELS))
            sums = multiplied(
                (Registers if byte_tiles() else Memory)(builder, "tdpbusd"), rows, columns, builder.add(panel, first),
                builder.sub(second, first), weights,
                (walk.height, walk.width, whole, walk.source_row, walk.source_column),
            )  # fmt: skip
            groups = builder.sdiv(builder.add(walk.present, ir.Constant(I64, GROUP - 1)), ir.Constant(I64, GROUP))
            last = builder.sub(walk.present, ir.Constant(I64, 1))
            with cgutils.for_range(builder, groups) as group:
                first = builder.mul(group.index, ir.Constant(I64, GROUP))
                at = builder.add(table, builder.mul(first, ir.Constant(I64, ROW_BYTES)))
                emitter = Emitter(builder, kind, GROUP, columns, at)
                emitter.start(e)
                _add_sums(emitter, sums, first, last)
                emitter.finish(e, result == "floats")
            return context.get_dummy_value()

        shapes = types.Tuple([types.int64] * len(Walk._fields)), types.Tuple([types.int64] * len(Epilogue._fields))
        return types.void(*[types.int64] * 3, *shapes), codegen

    return tile


def _add_sums(emitter: Emitter, sums: ir.Value, first: ir.Value, last: ir.Value) -> None:
    """Adds the sums of rows from `first` on; those behind the `last` one repeat it, as in the table."""
    builder = emitter.builder
    for (r, c), slot in emitter.sums.items():
        row = builder.add(first, ir.Constant(I64, r))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        at = emitter.at(sums, (row, emitter.columns * VECTOR_BYTES), (c, VECTOR_BYTES))
        total = builder.load(pointer(builder, at, WORDS), align=1)
        builder.store(builder.add(builder.load(slot), total), slot)


@cache
def make_bf16_amx_tile(rows: int, columns: int) -> Any:
    """The tile of bf16 numbers as an intrinsic, see `make_tile`; `steps` are whole tile registers."""

    @intrinsic
    def tile(typingctx, source, step, weights, remainder, walk, epilogue):
        def codegen(context, builder, sig, args):
            source, step, weights = args[:3]
            w = register_tile.Walk(*cgutils.unpack_tuple(builder, args[4]))
            e = register_tile.Epilogue(*cgutils.unpack_tuple(builder, args[5]))
            sums = multiplied(
                (Registers if bf16_tiles() else Memory)(builder, "tdpbf16ps"), rows, columns, source, step, weights,
                (w.height, w.width, w.steps, w.source_row, w.source_column),
            )  # fmt: skip
            last, nothing = first_lanes(builder, e.tail), ir.Constant(I64, 0)
            with cgutils.for_range(builder, ir.Constant(I64, rows // GROUP)) as group:
                first = builder.mul(group.index, ir.Constant(I64, GROUP))
                emitter = register_tile.Emitter(builder, GROUP, columns, 1, None)
                emitter.start(e.bias)
                at = emitter.offset(sums, (first, columns * VECTOR_BYTES))
                for (r, c), slot in emitter.accumulators.items():
                    total = emitter.load(at, (r * columns + c, VECTOR_BYTES))
                    builder.store(builder.fadd(builder.load(slot), total), slot)
                residual = emitter.offset(e.residual, (first, e.residual_step))
                residual = builder.select(builder.icmp_signed("!=", e.residual, nothing), residual, nothing)
                part = e._replace(target=emitter.offset(e.target, (first, e.target_step)), residual=residual)
                emitter.add_residual(part, last)
                emitter.clamp(part)
                emitter.write(part, last)
            return context.get_dummy_value()

        shapes = types.Tuple([types.int64] * 11), types.Tuple([types.int64] * 9)
        return types.void(*[types.int64] * 4, *shapes), codegen

    return tile
