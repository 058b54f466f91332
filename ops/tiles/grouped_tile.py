"""The register tile of one group of a convolution whose groups begin and end within vectors of channels.

It reads exactly the group's own inputs, block by block of the source. The other lanes of its first and last column
belong to the groups beside it: they are loaded and stored again.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.simd import FLOATS, I32, I64, WORDS, pointer, splat
from cpuruntime.ops.tiles.register_tile import Emitter, Epilogue, loops


class Walk(namedtuple("_Walk", "begin end first last height width source_block source_row source_column")):
    """The group's inputs begin .. end, counted from a block's first lane; kernel rows first .. last of `height`.

    Strides are those of a block, of kernel rows and of kernel columns in the source (bytes).
    """


@cache
def make_grouped_tile(rows: int, columns: int, unroll: int, step: int) -> Any:
    """The tile as an intrinsic `tile(source, weights, walk, low, epilogue)`; everything is int64.

    The target's lanes from `low` of the first column to the epilogue's tail of the last are written. Weights lie as
    they are read: [block][kernel height][kernel width][channel][columns][LANES]. `unroll` divides `begin` and `end`;
    `step` is the byte distance of rows in the source.
    """

    @intrinsic
    def tile(typingctx, source, weights, walk, low, epilogue):
        def codegen(context, builder, sig, args):
            source, weights, _, low, _ = args
            emitter = _Emitter(builder, rows, columns, unroll, step)
            e = Epilogue(*cgutils.unpack_tuple(builder, args[4]))
            emitter.start(e.bias)
            emitter.reduce_group(source, weights, Walk(*cgutils.unpack_tuple(builder, args[2])))
            emitter.add_residual(e, None)
            emitter.clamp(e)
            emitter.write_between(e, low)
            return context.get_dummy_value()

        shapes = types.Tuple([types.int64] * 9), types.int64, types.Tuple([types.int64] * 9)
        return types.void(*[types.int64] * 2, *shapes), codegen

    return tile


class _Emitter(Emitter):
    def reduce_group(self, source: ir.Value, weights: ir.Value, walk: Walk) -> None:
        builder, lanes, zero = self.builder, ir.Constant(I64, LANES), ir.Constant(I64, 0)
        channel = self.columns * VECTOR_BYTES
        blocks = builder.udiv(builder.add(walk.end, ir.Constant(I64, LANES - 1)), lanes)
        with cgutils.for_range(builder, blocks) as block:
            origin = builder.mul(block.index, lanes)
            low = self.larger(builder.sub(walk.begin, origin), zero)
            high = self.smaller(builder.sub(walk.end, origin), lanes)
            count = builder.sub(high, low)
            before = self.larger(builder.sub(origin, walk.begin), zero)
            skipped = self.offset(zero, (before, walk.height), (count, walk.first))
            weight_at = cgutils.alloca_once(builder, I64)
            builder.store(self.offset(weights, (builder.mul(skipped, walk.width), channel)), weight_at)
            line = self.offset(source, (block.index, walk.source_block), (low, 4))
            steps = builder.udiv(count, ir.Constant(I64, self.unroll))
            with cgutils.for_range(builder, builder.sub(walk.last, walk.first)) as y:
                row = self.offset(line, (y.index, walk.source_row))
                with loops(builder, walk.width, steps) as (x, position):
                    at = self.offset(row, (x, walk.source_column), (position, 4 * self.unroll))
                    w = builder.load(weight_at)
                    self.multiply([self.offset(at, (r, self.step)) for r in range(self.rows)], [w], self.unroll)
                    builder.store(self.offset(w, (self.unroll, channel)), weight_at)

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def smaller(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def write_between(self, e: Epilogue, low: ir.Value) -> None:
        """Stores the lanes from `low` of the first column to the tail of the last."""
        builder = self.builder
        bounds = [(low, None)] + [(None, None)] * (self.columns - 1)
        bounds[-1] = bounds[-1][0], e.tail
        outside = builder.sub(self.offset(low, (LANES, 1)), e.tail)
        whole = builder.icmp_signed("==", outside, ir.Constant(I64, 0))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                self.write(e, None)
            with otherwise:
                # A masked store takes as long as a dozen whole ones on some processors. LLVM would make one of a load,
                # a selection and a store, but for the empty assembly between them.
                masks = [self.lanes_between(*bound) for bound in bounds]
                merged = []
                for (r, c), slot in self.accumulators.items():
                    at = pointer(builder, self.offset(e.target, (c, e.target_column), (r, e.target_step)), FLOATS)
                    value = builder.load(slot)
                    if masks[c] is not None:
                        value = builder.select(masks[c], value, builder.load(at, align=4))
                    merged.append((value, at))
                builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
                for value, at in merged:
                    builder.store(value, at, align=4)

    def lanes_between(self, low: ir.Value | None, high: ir.Value | None) -> ir.Value | None:
        """The mask of lanes low <= lane < high."""
        builder, masks = self.builder, []
        lanes = ir.Constant(WORDS, list(range(LANES)))
        for sign, bound in ((">=", low), ("<", high)):
            if bound is not None:
                limit = splat(builder, builder.trunc(bound, I32))
                masks.append(builder.icmp_signed(sign, lanes, limit))
        if len(masks) == 2:
            return builder.and_(*masks)
        return masks[0] if masks else None
