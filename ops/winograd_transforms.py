"""The transforms of Winograd convolution as intrinsics on whole vectors, for any method of `winograd_methods`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES
from cpuruntime.compiler.simd import FLOATS, I32, I64, call_llvm, pointer
from cpuruntime.ops.tiles.bf16_tile import rounded
from cpuruntime.ops.tiles.register_tile import clamp
from cpuruntime.ops.winograd_methods import Matrix, Method


class _Vectors:
    """Arithmetic on LLVM vectors of floats; a product by a number fuses with the sum it goes into."""

    def __init__(self, builder: ir.IRBuilder):
        self.builder = builder

    def multiply(self, a: ir.Value, factor: float, plus: ir.Value | None = None) -> ir.Value:
        """a * factor + plus."""
        if abs(factor) == 1 and plus is not None:
            return self.builder.fadd(plus, a) if factor == 1 else self.builder.fsub(plus, a)
        if factor == 1:
            return a
        constant = ir.Constant(FLOATS, [factor] * LANES)
        if plus is None:
            return self.builder.fmul(a, constant)
        return call_llvm(self.builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [a, constant, plus])

    def total(self, row: Sequence[float], values: Sequence[ir.Value]) -> ir.Value:
        """The sum of value * factor over the factors that are not zero, one of which there has to be."""
        terms = [(factor, value) for factor, value in zip(row, values) if factor]
        terms.sort(key=lambda term: term[0] != 1)
        result = self.multiply(terms[0][1], terms[0][0])
        for factor, value in terms[1:]:
            result = self.multiply(value, factor, result)
        return result

    def transform(self, matrix: Matrix, values: Sequence[ir.Value]) -> list[ir.Value]:
        """The matrix times a column; what the evaluations at a point and at its negative share is computed once."""
        results: dict[int, ir.Value] = {}
        matrix, values = self._paired(matrix, values)
        for i, j in pairwise(range(len(matrix))):
            even = [(a + b) / 2 for a, b in zip(matrix[i], matrix[j])]
            odd = [(a - b) / 2 for a, b in zip(matrix[i], matrix[j])]
            if i in results or not any(even) or not any(odd) or any(a and b for a, b in zip(even, odd)):
                continue
            sizes = {abs(factor) for factor in odd if factor}
            scale = sizes.pop() if len(sizes) == 1 else 1.0
            a, b = self.total(even, values), self.total([factor / scale for factor in odd], values)
            results[i], results[j] = self.multiply(b, scale, a), self.multiply(b, -scale, a)
        return [results[i] if i in results else self.total(row, values) for i, row in enumerate(matrix)]

    def _paired(self, matrix: Matrix, values: Sequence[ir.Value]) -> tuple[Matrix, list[ir.Value]]:
        """Neighbours that all rows take by factors of the same size are replaced by their sum and difference."""
        columns, values = list(zip(*matrix)), list(values)
        for i in range(len(columns) - 1):
            a, b = columns[i], columns[i + 1]
            if any(map(abs, a)) and sum(map(bool, a)) > 1 and all(abs(x) == abs(y) for x, y in zip(a, b)):
                columns[i] = tuple(x if x == y else 0.0 for x, y in zip(a, b))
                columns[i + 1] = tuple(x if x != y else 0.0 for x, y in zip(a, b))
                first, second = values[i], values[i + 1]
                values[i], values[i + 1] = self.builder.fadd(first, second), self.multiply(second, -1.0, first)
        return tuple(zip(*columns)), values

    def nested(self, vertical: Matrix, horizontal: Matrix, square: list[list[ir.Value]]) -> list[list[ir.Value]]:
        """The transform along columns, then along rows."""
        down = [self.transform(vertical, column) for column in zip(*square)]
        return [self.transform(horizontal, row) for row in zip(*down)]


def _at(builder: ir.IRBuilder, base: ir.Value, *terms: tuple[Any, int]) -> ir.Value:
    """base + the sum of stride * count over `terms`."""
    for stride, count in terms:
        step = ir.Constant(I64, stride) if isinstance(stride, int) else stride
        base = builder.add(base, builder.mul(step, ir.Constant(I64, count)))
    return base


def _load(builder: ir.IRBuilder, base: ir.Value, *terms: tuple[Any, int]) -> ir.Value:
    return builder.load(pointer(builder, _at(builder, base, *terms), FLOATS), align=4)


def _store(builder: ir.IRBuilder, value: ir.Value, base: ir.Value, *terms: tuple[Any, int]) -> None:
    builder.store(value, pointer(builder, _at(builder, base, *terms), value.type), align=2)


@cache
def transform_input(method: Method) -> Any:
    """`transform(source, row, y, height, zeros, target, plane)`: the input of one tile.

    `source` is the address of its first pixel's column in image row 0, `y` its first row; of rows that are not in
    [0, height) the vectors at `zeros` are read. Element (i, j) goes to target + (i * columns + j) * plane.
    """
    v, h = method.vertical, method.horizontal
    round_element = rounded if method.rounds else lambda builder, element: element

    @intrinsic
    def transform(typingctx, source, row, y, height, zeros, target, plane):
        def codegen(context, builder, sig, args):
            source, row, y, height, zeros, target, plane = args
            square = []
            for i in range(v.inputs):
                here = builder.add(y, ir.Constant(I64, i))
                inside = builder.icmp_unsigned("<", here, height)
                start = builder.select(inside, builder.add(source, builder.mul(here, row)), zeros)
                square.append([_load(builder, start, (VECTOR_BYTES, j)) for j in range(h.inputs)])
            for i, line in enumerate(_Vectors(builder).nested(v.input, h.input, square)):
                for j, element in enumerate(line):
                    _store(builder, round_element(builder, element), target, (plane, i * h.products + j))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return transform


@cache
def transform_weights(method: Method) -> Any:
    """`transform(source, row, target, plane)`: vectors of taps, `row` bytes apart, to one for each product."""
    v, h = method.vertical, method.horizontal

    @intrinsic
    def transform(typingctx, source, row, target, plane):
        def codegen(context, builder, sig, args):
            source, row, target, plane = args
            square = [[_load(builder, source, (row, h.taps * i + j)) for j in range(h.taps)] for i in range(v.taps)]
            for i, line in enumerate(_Vectors(builder).nested(v.weights, h.weights, square)):
                for j, element in enumerate(line):
                    _store(builder, element, target, (plane, i * h.products + j))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return transform


@cache
def transform_output(method: Method) -> Any:
    """`transform(source, plane, target, target_row, residual, residual_row, bias, limits)`: the pixels of one tile.

    Element (i, j) of the products is at source + (i * columns + j) * plane. The residual's address may be 0; limits
    are the address of two floats, bias that of a vector.
    """
    v, h = method.vertical, method.horizontal

    @intrinsic
    def transform(typingctx, source, plane, target, target_row, residual, residual_row, bias, limits):
        def codegen(context, builder, sig, args):
            source, plane, target, target_row, residual, residual_row, bias, limits = args
            square = [
                [_load(builder, source, (plane, i * h.products + j)) for j in range(h.products)]
                for i in range(v.products)
            ]
            start = _load(builder, bias)
            slots = {
                (i, j): cgutils.alloca_once_value(builder, builder.fadd(element, start))
                for i, line in enumerate(_Vectors(builder).nested(v.output, h.output, square))
                for j, element in enumerate(line)
            }
            with builder.if_then(builder.icmp_signed("!=", residual, ir.Constant(I64, 0))):
                for (i, j), slot in slots.items():
                    added = _load(builder, residual, (residual_row, i), (VECTOR_BYTES, j))
                    builder.store(builder.fadd(builder.load(slot), added), slot)
            clamp(builder, limits, slots.values())
            for (i, j), slot in slots.items():
                _store(builder, builder.load(slot), target, (target_row, i), (VECTOR_BYTES, j))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return transform


@cache
def fetch_pixels(rows: int, columns: int, write: bool) -> Any:
    """`fetch(address, row)`: asks for `rows` x `columns` pixels, rows `row` bytes apart, to be read or written soon."""

    @intrinsic
    def fetch(typingctx, address, row):
        def codegen(context, builder, sig, args):
            address, row = args
            # To the first-level cache; the last 1 says that these are data.
            how = [ir.Constant(I32, value) for value in (int(write), 3, 1)]
            for i in range(rows):
                for offset in range(0, columns * VECTOR_BYTES, LINE):
                    at = pointer(builder, _at(builder, address, (row, i), (offset, 1)), ir.IntType(8))
                    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [at, *how])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return fetch
