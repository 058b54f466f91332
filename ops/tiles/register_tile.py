"""The register tile: `rows` x `columns` vector accumulators that every dense convolution and matrix product is made of.

A tile computes `rows` output pixels (rows of A) times `columns` vectors of output channels (columns of B) and keeps
all of it in registers while it runs over the reduction. Rows lie `step` bytes apart in the source, so every address in
the inner loop is a base and a constant. Weights are packed in the order they are read, one stream per tile:
[blocks][kernel height][kernel width][channel][columns][LANES].

An accumulator spilled to the stack costs a quarter of the speed; `tile_shapes` lists the shapes that never spill.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LINE, VECTOR_BYTES
from cpuruntime.compiler.simd import F32, FLOATS, I32, I64, LANES, call_llvm, f32s, first_lanes, pointer, splat

_LOOPS = "blocks height width steps source_block source_row source_column weight_block weight_row ahead ahead_step"
_OUTPUTS = "target target_column target_step residual residual_column residual_step bias limits tail"


class Walk(namedtuple("_Walk", _LOOPS)):
    """The reduction: loop counts, the strides of each loop in the source, and in the weights (bytes).

    `ahead` is the address of what will be multiplied later: each loop body asks for a few lines from there on, then
    moves it by `ahead_step` (0 to stay where it is).
    """


class Epilogue(namedtuple("_Epilogue", _OUTPUTS)):
    """What is done before the store, and where the result goes: residual and limits are addresses or 0.

    Limits point at two float32, low and high: they are read for every tile so that they take no register meanwhile.
    """


class Emitter:
    """Emits one tile. `step` is the byte distance of rows in the source, None when it is a run-time argument."""

    vectors = FLOATS
    """The type of a vector of weights; an element of the source is one of its lanes."""

    def __init__(
        self, builder: ir.IRBuilder, rows: int, columns: int, unroll: int, step: int | None, lines: int = 0,
        panels: int = 1,
    ):  # fmt: skip
        self.builder, self.rows, self.columns, self.unroll, self.step = builder, rows, columns, unroll, step
        self.lines, self.panels = lines, panels
        self.accumulators: dict[tuple[int, int], ir.Value] = {}

    def offset(self, base: ir.Value, *terms: tuple[Any, Any]) -> ir.Value:
        """base + the sum of count * stride over `terms`."""
        for count, stride in terms:
            if isinstance(count, int) and isinstance(stride, int):
                distance = ir.Constant(I64, count * stride)
            else:
                a, b = (ir.Constant(I64, t) if isinstance(t, int) else t for t in (count, stride))
                distance = self.builder.mul(a, b)
            base = self.builder.add(base, distance)
        return base

    def load(self, base: ir.Value, *terms: tuple[Any, Any], kind: ir.Type = FLOATS) -> ir.Value:
        """What lies at `offset(base, *terms)`."""
        return self.builder.load(pointer(self.builder, self.offset(base, *terms), kind), align=4)

    def start(self, bias: ir.Value) -> None:
        for c in range(self.columns):
            first = self.load(bias, (c, VECTOR_BYTES))
            for r in range(self.rows):
                self.accumulators[r, c] = cgutils.alloca_once_value(self.builder, first)

    def multiply(self, rows: list[ir.Value], weights: list[ir.Value], channels: int) -> None:
        """Adds the products of `channels` successive channels.

        `rows` are the addresses of the rows' first channel, `weights` those of the panels'.
        """
        builder, width = self.builder, self.columns // self.panels
        sources = [pointer(builder, row, self.vectors.element) for row in rows]
        packed = [pointer(builder, panel, self.vectors) for panel in weights]
        totals = {place: builder.load(slot) for place, slot in self.accumulators.items()}
        for k in range(channels):
            b = [self.element(panel, k * width + c) for panel in packed for c in range(width)]
            for r, source in enumerate(sources):
                a = splat(builder, self.element(source, k))
                for c in range(self.columns):
                    totals[r, c] = self.multiply_add(a, b[c], totals[r, c])
        for place, slot in self.accumulators.items():
            builder.store(totals[place], slot)

    def multiply_add(self, a: ir.Value, b: ir.Value, total: ir.Value) -> ir.Value:
        """total + a * b, lane by lane."""
        return call_llvm(self.builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [a, b, total])

    def element(self, base: ir.Value, index: int) -> ir.Value:
        """What lies at an index behind a pointer."""
        return self.builder.load(self.builder.gep(base, [ir.Constant(I64, index)]), align=4)

    def reduce(
        self, source: ir.Value, step: ir.Value, weights: ir.Value, walk: Walk, remainder: ir.Value, plain: bool
    ) -> None:
        builder, unroll, stride = self.builder, self.unroll, self.columns // self.panels * VECTOR_BYTES
        row_step = self.step if self.step is not None else step
        ahead_at = cgutils.alloca_once_value(builder, walk.ahead)
        with loops(builder, walk.blocks, walk.height) as (block, y):
            line = self.offset(source, (block, walk.source_block), (y, walk.source_row))
            weight_at = cgutils.alloca_once(builder, I64)
            builder.store(self.offset(weights, (block, walk.weight_block), (y, walk.weight_row)), weight_at)
            left_out = ir.Constant(I64, 0)
            if not plain:
                is_last = builder.icmp_signed("==", self.offset(block, (1, 1)), walk.blocks)
                left_out = builder.select(is_last, remainder, left_out)
            with cgutils.for_range(builder, walk.width) as x:
                with cgutils.for_range(builder, builder.sub(walk.steps, left_out)) as position:
                    at = self.offset(line, (x.index, walk.source_column), (position.index, 4 * unroll))
                    w = builder.load(weight_at)
                    self.fetch_ahead(ahead_at, walk.ahead_step)
                    panels = [self.offset(w, (p, walk.weight_block)) for p in range(self.panels)]
                    self.multiply([self.offset(at, (r, row_step)) for r in range(self.rows)], panels, unroll)
                    builder.store(self.offset(w, (unroll, stride)), weight_at)
                builder.store(self.offset(builder.load(weight_at), (left_out, unroll * stride)), weight_at)
            if plain:
                at = self.offset(line, (walk.steps, 4 * unroll))
                with cgutils.for_range(builder, remainder) as k:
                    w = builder.load(weight_at)
                    here = self.offset(at, (k.index, 4))
                    panels = [self.offset(w, (p, walk.weight_block)) for p in range(self.panels)]
                    self.multiply([self.offset(here, (r, row_step)) for r in range(self.rows)], panels, 1)
                    builder.store(self.offset(w, (1, stride)), weight_at)

    def fetch_ahead(self, ahead_at: ir.Value, ahead_step: ir.Value) -> None:
        """Asks for `lines` cache lines to come to the second-level cache."""
        if self.lines == 0:
            return
        builder = self.builder
        ahead = builder.load(ahead_at)
        for line in range(self.lines):
            at = pointer(builder, self.offset(ahead, (line, LINE)), ir.IntType(8))
            how = (ir.Constant(I32, number) for number in (0, 2, 1))
            call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [at, *how])
        builder.store(builder.add(ahead, ahead_step), ahead_at)

    def add_residual(self, e: Epilogue, last: ir.Value | None) -> None:
        builder = self.builder
        with builder.if_then(builder.icmp_signed("!=", e.residual, ir.Constant(I64, 0))):
            for (r, c), slot in self.accumulators.items():
                at = pointer(builder, self.offset(e.residual, (c, e.residual_column), (r, e.residual_step)), FLOATS)
                if last is not None and c == self.columns - 1:
                    arguments = [at, ir.Constant(I32, 4), last, ir.Constant(FLOATS, [0.0] * LANES)]
                    value = call_llvm(builder, f"llvm.masked.load.v{LANES}f32.p0", FLOATS, arguments)
                else:
                    value = builder.load(at, align=4)
                builder.store(builder.fadd(builder.load(slot), value), slot)

    def clamp(self, e: Epilogue) -> None:
        with self.builder.if_then(self.builder.icmp_signed("!=", e.limits, ir.Constant(I64, 0))):
            clamp(self.builder, e.limits, self.accumulators.values())

    def write(self, e: Epilogue, last: ir.Value | None) -> None:
        if last is None:
            self.store(e, None)
            return
        # A masked store takes as long as a dozen whole ones on some processors.
        whole = self.builder.icmp_signed(">=", e.tail, ir.Constant(I64, LANES))
        with self.builder.if_else(whole) as (all_lanes, some):
            with all_lanes:
                self.store(e, None)
            with some:
                self.store(e, last)

    def store(self, e: Epilogue, last: ir.Value | None) -> None:
        """Stores the accumulators; of the last column only the lanes of the mask `last`, if it is given."""
        builder = self.builder
        for (r, c), slot in self.accumulators.items():
            at = pointer(builder, self.offset(e.target, (c, e.target_column), (r, e.target_step)), FLOATS)
            value = builder.load(slot)
            if last is not None and c == self.columns - 1:
                arguments = [value, at, ir.Constant(I32, 4), last]
                call_llvm(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), arguments)
            else:
                builder.store(value, at, align=4)


def clamp(builder: ir.IRBuilder, limits: ir.Value, slots: Iterable[ir.Value]) -> None:
    """Limits vectors to the two floats at `limits`: max then min in the order that keeps a NaN."""
    at = (pointer(builder, builder.add(limits, ir.Constant(I64, 4 * i)), F32) for i in range(2))
    low, high = (splat(builder, builder.load(p, align=4)) for p in at)
    for slot in slots:
        value = builder.load(slot)
        value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
        builder.store(builder.select(builder.fcmp_ordered("<", high, value), high, value), slot)


@contextmanager
def loops(builder: ir.IRBuilder, outer: ir.Value, inner: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
    with cgutils.for_range(builder, outer) as a, cgutils.for_range(builder, inner) as b:
        yield a.index, b.index


@cache
def make_tile(
    rows: int, columns: int, unroll: int, step: int | None, plain: bool, lines: int = 0, panels: int = 1,
    kind: type[Emitter] = Emitter,
) -> Any:  # fmt: skip
    """The tile as an intrinsic `tile(source, step, weights, remainder, walk, epilogue)`; everything is int64.

    `unroll` channels are taken per loop body. `step` is the byte distance of rows in the source, None to take it from
    the argument. `plain` tiles write row-major matrices: only the first `tail` lanes of the last column exist in the
    target, and `remainder` channels (below `unroll`) follow the last full step. Other tiles ignore the tail, and leave
    out `remainder` loop bodies of each kernel column in the last block, whose weights are skipped. `lines` cache lines
    are fetched ahead in each loop body. The columns of a tile of several `panels` are packed in as many streams,
    `weight_block` bytes apart, and its reduction has one block. `kind` says what is multiplied.
    """

    @intrinsic
    def tile(typingctx, source, row_step, weights, remainder, walk, epilogue):
        def codegen(context, builder, sig, args):
            source, row_step, weights, remainder = args[:4]
            emitter = kind(builder, rows, columns, unroll, step, lines, panels)
            w = Walk(*cgutils.unpack_tuple(builder, args[4]))
            e = Epilogue(*cgutils.unpack_tuple(builder, args[5]))
            emitter.start(e.bias)
            emitter.reduce(source, row_step, weights, w, remainder, plain)
            last = first_lanes(builder, e.tail) if plain else None
            emitter.add_residual(e, last)
            emitter.clamp(e)
            emitter.write(e, last)
            return context.get_dummy_value()

        shapes = types.Tuple([types.int64] * 11), types.Tuple([types.int64] * 9)
        return types.void(*[types.int64] * 4, *shapes), codegen

    return tile


@intrinsic
def fma_chain(typingctx, count):
    """`count` rounds of 12 independent multiply-adds that stay in registers: what a core can do at most."""

    def codegen(context, builder, sig, args):
        name = f"llvm.fmuladd.v{LANES}f32"
        one, half = (ir.Constant(FLOATS, [v] * LANES) for v in (1.0001, 0.5))
        return chain(builder, args[0], lambda total: call_llvm(builder, name, FLOATS, [total, one, half]))

    return f32s(types.int64), codegen


def chain(builder: ir.IRBuilder, count: ir.Value, step: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """`count` rounds of `step` on each of 12 vectors, and their sum."""
    totals = [cgutils.alloca_once_value(builder, ir.Constant(FLOATS, [float(i)] * LANES)) for i in range(12)]
    with cgutils.for_range(builder, count):
        for total in totals:
            builder.store(step(builder.load(total)), total)
    result = builder.load(totals[0])
    for total in totals[1:]:
        result = builder.fadd(result, builder.load(total))
    return result
