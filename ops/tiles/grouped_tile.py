"""The register tile of one group of a convolution whose groups begin and end within vectors of channels.

It reads exactly the group's own inputs, where a table of distances says. The other lanes of its first and last column
belong to the groups beside it: they are loaded and stored again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.simd import FLOATS, I32, I64, WORDS, pointer, splat
from cpuruntime.ops.tiles.register_tile import Emitter, Epilogue


@cache
def make_grouped_tile(rows: int, columns: int, unroll: int, step: int) -> Any:
    """The tile as an intrinsic `tile(source, weights, bodies, count, low, epilogue)`; everything is int64.

    `bodies` is the address of `count` int64: the distances from `source` to the first channel of each loop body, which
    multiplies `unroll` successive channels. Weights lie as they are read: [body][channel][columns][LANES]. The
    target's lanes from `low` of the first column to the epilogue's tail of the last are written. `step` is the byte
    distance of rows in the source.
    """

    @intrinsic
    def tile(typingctx, source, weights, bodies, count, low, epilogue):
        def codegen(context, builder, sig, args):
            source, weights, bodies, count, low, _ = args
            emitter = _Emitter(builder, rows, columns, unroll, step)
            e = Epilogue(*cgutils.unpack_tuple(builder, args[5]))
            emitter.start(e.bias)
            emitter.reduce_group(source, weights, bodies, count)
            emitter.add_residual(e, None)
            emitter.clamp(e)
            emitter.write_between(e, low)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5, types.Tuple([types.int64] * 9)), codegen

    return tile


class _Emitter(Emitter):
    def reduce_group(self, source: ir.Value, weights: ir.Value, bodies: ir.Value, count: ir.Value) -> None:
        builder, body = self.builder, self.unroll * self.columns * VECTOR_BYTES
        with cgutils.for_range(builder, count) as number:
            distance = self.load(bodies, (number.index, 8), kind=I64)
            at = builder.add(source, distance)
            w = self.offset(weights, (number.index, body))
            self.multiply([self.offset(at, (r, self.step)) for r in range(self.rows)], [w], self.unroll)

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
