"""The transforms of Winograd convolution as intrinsics on whole vectors.

F(m x m, 3 x 3) after A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: an output tile
of m x m pixels comes from (m + 2) x (m + 2) input pixels, and as many products replace 9 m x m of them. The
one-dimensional transforms below are plain arithmetic on anything with +, - and *.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .simd import F32, FLOATS, I64, LANES, pointer, splat

VECTOR_BYTES = 4 * LANES


def input_4(d: Sequence[Any]) -> list[Any]:
    """B^T d of F(4, 3)."""
    a, b = d[4] - d[2] * 4.0, d[3] - d[1] * 4.0
    c, e = d[4] - d[2], (d[3] - d[1]) * 2.0
    return [d[0] * 4.0 - d[2] * 5.0 + d[4], a + b, a - b, c + e, c - e, d[1] * 4.0 - d[3] * 5.0 + d[5]]


def output_4(m: Sequence[Any]) -> list[Any]:
    """A^T m of F(4, 3)."""
    a, b, c, d = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + a + c, b + d * 2.0, a + c * 4.0, b + d * 8.0 + m[5]]


def input_2(d: Sequence[Any]) -> list[Any]:
    """B^T d of F(2, 3)."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def output_2(m: Sequence[Any]) -> list[Any]:
    """A^T m of F(2, 3)."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def weights_4(g: Sequence[Any]) -> list[Any]:
    """G g of F(4, 3)."""
    even, odd = g[0] + g[2], g[0] * (1 / 24) + g[2] * (1 / 6)
    middle = g[1] * (1 / 12)
    return [
        g[0] * (1 / 4),
        (even + g[1]) * (-1 / 6),
        (even - g[1]) * (-1 / 6),
        odd + middle,
        odd - middle,
        g[2],
    ]


def weights_2(g: Sequence[Any]) -> list[Any]:
    """G g of F(2, 3)."""
    even = g[0] + g[2]
    return [g[0], (even + g[1]) * 0.5, (even - g[1]) * 0.5, g[2]]


WEIGHTS: dict[int, Callable[[Sequence[Any]], list[Any]]] = {2: weights_2, 4: weights_4}
INPUT: dict[int, Callable[[Sequence[Any]], list[Any]]] = {2: input_2, 4: input_4}
OUTPUT: dict[int, Callable[[Sequence[Any]], list[Any]]] = {2: output_2, 4: output_4}


class _Vector:
    """An LLVM vector with arithmetic; products by a number may fuse with sums."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self.builder, self.value = builder, value

    def __add__(self, other: _Vector) -> _Vector:
        return _Vector(self.builder, self.builder.fadd(self.value, other.value, flags=["contract"]))

    def __sub__(self, other: _Vector) -> _Vector:
        return _Vector(self.builder, self.builder.fsub(self.value, other.value, flags=["contract"]))

    def __mul__(self, factor: float) -> _Vector:
        constant = ir.Constant(FLOATS, [factor] * LANES)
        return _Vector(self.builder, self.builder.fmul(self.value, constant, flags=["contract"]))


def _at(builder: ir.IRBuilder, base: ir.Value, *terms: tuple[Any, int]) -> ir.Value:
    """The vector pointer at base + the sum of stride * count over `terms`."""
    for stride, count in terms:
        step = ir.Constant(I64, stride) if isinstance(stride, int) else stride
        base = builder.add(base, builder.mul(step, ir.Constant(I64, count)))
    return pointer(builder, base, FLOATS)


def _transform(one: Callable[[Sequence[Any]], list[Any]], square: list[list[_Vector]]) -> list[list[_Vector]]:
    """The one-dimensional transform along columns, then along rows."""
    down = [one(column) for column in zip(*square)]
    return [one(row) for row in zip(*down)]


@cache
def transform_input(m: int) -> Any:
    """`transform(rows, target, plane)`: `rows` are the addresses of the first of m + 2 pixels in m + 2 rows.

    Element (i, j) of the result goes to target + (i * (m + 2) + j) * plane.
    """
    size = m + 2

    @intrinsic
    def transform(typingctx, rows, target, plane):
        def codegen(context, builder, sig, args):
            rows, target, plane = args
            starts = [builder.extract_value(rows, i) for i in range(size)]
            square = [[_Vector(builder, _load(builder, row, (VECTOR_BYTES, j))) for j in range(size)] for row in starts]
            for i, row in enumerate(_transform(INPUT[m], square)):
                for j, element in enumerate(row):
                    builder.store(element.value, _at(builder, target, (plane, i * size + j)), align=4)
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, size), types.int64, types.int64), codegen

    return transform


@cache
def transform_weights(m: int) -> Any:
    """`transform(source, row, target, plane)`: nine vectors, `row` bytes apart, to (m + 2)^2 vectors, `plane` apart."""
    size = m + 2

    @intrinsic
    def transform(typingctx, source, row, target, plane):
        def codegen(context, builder, sig, args):
            source, row, target, plane = args
            square = [[_Vector(builder, _load(builder, source, (row, 3 * i + j))) for j in range(3)] for i in range(3)]
            for i, line in enumerate(_transform(WEIGHTS[m], square)):
                for j, element in enumerate(line):
                    builder.store(element.value, _at(builder, target, (plane, i * size + j)), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return transform


@cache
def transform_output(m: int) -> Any:
    """`transform(source, plane, target, target_row, residual, residual_row, bias, limits)`: m x m pixels.

    Element (i, j) of the products is at source + (i * (m + 2) + j) * plane. The residual's address may be 0; limits
    are the address of two floats, bias that of a vector.
    """
    size = m + 2

    @intrinsic
    def transform(typingctx, source, plane, target, target_row, residual, residual_row, bias, limits):
        def codegen(context, builder, sig, args):
            source, plane, target, target_row, residual, residual_row, bias, limits = args
            square = [
                [_Vector(builder, _load(builder, source, (plane, i * size + j))) for j in range(size)]
                for i in range(size)
            ]
            start = _Vector(builder, _load(builder, bias))
            slots = {
                (i, j): cgutils.alloca_once_value(builder, (element + start).value)
                for i, row in enumerate(_transform(OUTPUT[m], square))
                for j, element in enumerate(row)
            }
            with builder.if_then(builder.icmp_signed("!=", residual, ir.Constant(I64, 0))):
                for (i, j), slot in slots.items():
                    added = _load(builder, residual, (residual_row, i), (VECTOR_BYTES, j))
                    builder.store(builder.fadd(builder.load(slot), added), slot)
            low, high = (splat(builder, builder.load(_scalar(builder, limits, i), align=4)) for i in range(2))
            for (i, j), slot in slots.items():
                value = builder.load(slot)
                value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
                value = builder.select(builder.fcmp_ordered("<", high, value), high, value)
                builder.store(value, _at(builder, target, (target_row, i), (VECTOR_BYTES, j)), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return transform


def _load(builder: ir.IRBuilder, base: ir.Value, *terms: tuple[Any, int]) -> ir.Value:
    return builder.load(_at(builder, base, *terms), align=4)


def _scalar(builder: ir.IRBuilder, address: ir.Value, index: int) -> ir.Value:
    return pointer(builder, builder.add(address, ir.Constant(I64, 4 * index)), F32)
