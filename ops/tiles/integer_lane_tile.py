"""The tile of a depthwise convolution of bytes: `rows` output pixels of one block of channels, exact.

Pixels of two kernel rows lie side by side in 32-bit lanes, so that one instruction multiplies and adds both. Each is
loaded once and slides over the kernel's columns.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.compiler.simd import FLOATS, I64, LANES, WORDS, pointer
from cpuruntime.ops.tiles.integer_tile import HALVES, dot_pairs
from cpuruntime.ops.tiles.requantise import Limits, as_floats, as_packed, limited, shifted, write


class Epilogue(namedtuple("_Epilogue", "target residual channels limits")):
    """Where the first pixel goes, its residual or 0, the channels' parameters; see `ops.tiles.requantise`."""


@cache
def make_integer_lane_tile(rows: int, taps: int, stride: int, floats: bool) -> Any:
    """The tile as an intrinsic `tile(panel, weights, count, row, epilogue)`; everything is int64.

    `count` pairs of kernel rows, `row` bytes apart in the panel, whose pixels lie [LANES][2], as weights in
    [pair][taps][LANES][2], all int16.
    """

    @intrinsic
    def tile(typingctx, panel, weights, count, row, epilogue):
        def codegen(context, builder, sig, args):
            panel, weights, count, row = args[:4]
            e = Epilogue(*cgutils.unpack_tuple(builder, args[4]))

            def load(kind, base, offset):
                return builder.load(pointer(builder, builder.add(base, ir.Constant(I64, offset)), kind), align=1)

            sums = [cgutils.alloca_once_value(builder, load(WORDS, e.channels, 0)) for _ in range(rows)]
            with cgutils.for_range(builder, count) as pair:
                line = builder.add(panel, builder.mul(row, pair.index))
                at = builder.add(weights, builder.mul(pair.index, ir.Constant(I64, taps * VECTOR_BYTES)))
                columns = [builder.bitcast(load(WORDS, at, t * VECTOR_BYTES), HALVES) for t in range(taps)]
                for x in range((rows - 1) * stride + taps):
                    if not any(0 <= x - r * stride < taps for r in range(rows)):
                        continue
                    pixel = load(HALVES, line, x * VECTOR_BYTES)
                    for r in range(rows):
                        if 0 <= x - r * stride < taps:
                            total = dot_pairs(builder, builder.load(sums[r]), pixel, columns[x - r * stride])
                            builder.store(total, sums[r])
            limits, size = Limits(builder, e.limits), 4 if floats else 1
            multiplier = load(FLOATS, e.channels, 2 * VECTOR_BYTES)
            values = [as_floats(builder, builder.load(total), multiplier) for total in sums]

            def bias(r):
                return load(FLOATS, e.channels, 3 * VECTOR_BYTES)

            def residual_at(r):
                return builder.add(e.residual, ir.Constant(I64, r * LANES))

            if floats:
                values = [limited(builder, builder.fadd(value, bias(r)), limits) for r, value in enumerate(values)]
            else:
                values = shifted(builder, values, bias, limits, e.residual, residual_at)
                values = as_packed(builder, values, limits)
            at = 0
            for value in values:
                write(builder, value, builder.add(e.target, ir.Constant(I64, at * size)), None)
                at += value.type.count
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4, types.Tuple([types.int64] * 4)), codegen

    return tile
