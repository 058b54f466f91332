"""The transforms of Winograd's F(2x2, 3x3) in whole numbers.

The weights' transform is doubled in each dimension, so that it has whole numbers; results are 4 times the sums.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.compiler.simd import FLOATS, I8, I64, LANES, WORDS, operation, pointer
from cpuruntime.ops.tiles.requantise import Limits, as_bytes, as_floats, limited, repeated, shifted, write

INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
SIDE, STEP = 4, 2
"""Pixels of a tile's side before and after."""

I16 = ir.IntType(16)
OCTETS, HALVES = ir.VectorType(I8, 2 * LANES), ir.VectorType(I16, 2 * LANES)


class Pixels(namedtuple("_Pixels", "target row residual residual_row channels limits rows columns")):
    """Where a tile's pixels go: `rows` x `columns` of them exist; the residual's address may be 0."""


def _transformed(builder: ir.IRBuilder, matrix: Sequence[Sequence[int]], values: list[ir.Value]) -> list[ir.Value]:
    """matrix @ values by additions; each row begins with a 1 or has one."""
    results = []
    for row in matrix:
        terms = sorted(((factor, value) for factor, value in zip(row, values) if factor), key=lambda term: -term[0])
        total = terms[0][1]
        for factor, value in terms[1:]:
            total = builder.add(total, value) if factor > 0 else builder.sub(total, value)
        results.append(total)
    return results


def _nested(builder: ir.IRBuilder, matrix: Sequence[Sequence[int]], grid: list[list[ir.Value]]) -> list[list[ir.Value]]:
    """The transform along rows, then along columns."""
    lines = [_transformed(builder, matrix, line) for line in grid]
    columns = [_transformed(builder, matrix, list(column)) for column in zip(*lines)]
    return [list(line) for line in zip(*columns)]


@operation(types.void, *[types.int64] * 6)
def transform_input(builder, source, row, pixel, target, plane, zero):
    """The input of one tile, 2 * LANES unsigned bytes a pixel, as 16 vectors of 16-bit numbers, `plane` bytes apart."""

    def at(base, *terms):
        for stride, count in terms:
            base = builder.add(base, builder.mul(stride, ir.Constant(I64, count)))
        return base

    grid = [
        [
            builder.zext(builder.load(pointer(builder, at(source, (row, y), (pixel, x)), OCTETS), align=1), HALVES)
            for x in range(SIDE)
        ]
        for y in range(SIDE)
    ]
    results = _nested(builder, INPUT, grid)
    # What stands for zero leaves all elements but the one that adds four pixels.
    four = builder.trunc(builder.mul(zero, ir.Constant(I64, 4)), I16)
    results[1][1] = builder.sub(results[1][1], repeated(builder, four, HALVES))
    for index, value in enumerate(value for line in results for value in line):
        builder.store(value, pointer(builder, at(target, (plane, index)), HALVES), align=2)


@cache
def make_transform_output(floats: bool) -> Any:
    """`transform(sums, plane, pixels)`: 16 vectors of int32, `plane` bytes apart, become the pixels of a tile."""

    @intrinsic
    def transform(typingctx, sums, plane, pixels):
        def codegen(context, builder, sig, args):
            sums, plane = args[:2]
            p = Pixels(*cgutils.unpack_tuple(builder, args[2]))
            size = 4 if floats else 1

            def load(kind, base, offset):
                return builder.load(pointer(builder, builder.add(base, offset), kind), align=4)

            grid = [
                [load(WORDS, sums, builder.mul(plane, ir.Constant(I64, SIDE * y + x))) for x in range(SIDE)]
                for y in range(SIDE)
            ]
            numbers = [value for line in _nested(builder, OUTPUT, grid) for value in line]
            start, multiplier = (
                load(kind, p.channels, ir.Constant(I64, i * VECTOR_BYTES)) for i, kind in ((0, WORDS), (2, FLOATS))
            )
            two = ir.Constant(WORDS, [2] * LANES)
            values = [
                as_floats(builder, builder.add(builder.ashr(number, two), start), multiplier) for number in numbers
            ]
            limits, one = Limits(builder, p.limits), ir.Constant(I64, 1)
            exists = [ir.Constant(ir.IntType(1), 1)] * 4
            below, beside = (builder.icmp_signed(">", count, one) for count in (p.rows, p.columns))
            exists[1:] = beside, below, builder.and_(below, beside)

            def place(base, row, i, bytes_):
                at = builder.add(base, ir.Constant(I64, i % STEP * LANES * bytes_))
                return builder.add(at, row) if i >= STEP else at

            def bias(i):
                return load(FLOATS, p.channels, ir.Constant(I64, 3 * VECTOR_BYTES))

            def residual_at(i):
                return builder.select(exists[i], place(p.residual, p.residual_row, i, 1), p.residual)

            if floats:
                values = [limited(builder, builder.fadd(value, bias(i)), limits) for i, value in enumerate(values)]
            else:
                values = as_bytes(builder, shifted(builder, values, bias, limits, p.residual, residual_at), limits)
            for i, value in enumerate(values):
                with builder.if_then(exists[i]):
                    write(builder, value, place(p.target, p.row, i, size), None)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.Tuple([types.int64] * 8)), codegen

    return transform
