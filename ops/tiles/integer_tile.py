"""The register tile of 8-bit operands: `rows` x `columns` vectors of int32 sums, exact whatever the data.

What differs between its kinds is what a 32-bit lane holds:

- `w16`: two channels of 16 bits (vpmaddwd); activations less their zero point, weights less theirs.
- `ubs`: four channels of 8 bits, unsigned by signed (vpmaddubsw, then vpmaddwd by ones). A pair of products that could
  leave 16 bits is cut at packing: part of a weight goes to a gathered step, in which each lane picks up to four of the
  last GATHER channels, and what it has no place for to an extra step that reads the same activations again.
- `vnni`: the same weights without extra steps (vpdpbusd, which does not saturate).
- `vnni_both`: the same where weights are activations, too: their zero point adds to the sums of a row what the table
  has in place of a residual.
- `amx`, `amx_both`: the same by tile registers, see `amx_tile`.

Rows lie anywhere in a panel of activations; a table names them. Weights lie as they are read:
[height][width][step][lane group][columns][LANES][channels of a lane], then the extra steps of each column. Where
there are gathered steps, PICKS and a vector of weights for each column, [PICKS + 1][columns], follow each GATHER
channels and the last ones of a run.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import VECTOR_BYTES, byte_products, current
from cpuruntime.compiler.simd import F32, FLOATS, I8, I32, I64, LANES, WORDS, call_llvm, pointer, splat
from cpuruntime.ops.tiles.integer_shapes import BOTH, CHANNELS, GATHER, PICKS, ROW_BYTES, VNNI, bytes_of, channels_of
from cpuruntime.ops.tiles.requantise import Limits, as_bytes, as_floats, limited, shifted, write

STEPS, GROUPS = GATHER // CHANNELS, CHANNELS // channels_of("ubs")
SIXTEEN = ir.VectorType(I8, 16)
HALVES, OCTETS = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(I8, 4 * LANES)


class Walk(namedtuple("_Walk", "height width steps source_row source_column gathered extras present")):
    """The reduction: loop counts, strides in the panel (bytes), and the address of the extra steps' table.

    `gathered` says whether there are gathered steps; these read GATHER whole channels, of which the last may be none.
    The first `present` rows of the table are rows of the tile, the others repeat the last one.

    A step takes CHANNELS channels. The table has for each column the number of its extra steps and then, for each of
    them, where in the panel its activations lie (bytes from the row's first ones); all int64.
    """


class Epilogue(
    namedtuple("_Epilogue", "target target_column residual residual_column row_scale channels zero limits tail")
):
    """Where results go, and what is done before; see `ops.tiles.requantise`.

    `channels` are the parameters of the output channels, `zero` is what activations stand for 0 (the compensation).
    """


class Emitter:
    """Emits one tile."""

    def __init__(self, builder: ir.IRBuilder, kind: str, rows: int, columns: int, table: ir.Value):
        self.builder, self.kind, self.rows, self.columns, self.table = builder, kind, rows, columns, table
        self.sums: dict[tuple[int, int], ir.Value] = {}

    def at(self, base: ir.Value, *terms: tuple[Any, Any]) -> ir.Value:
        """base + the sum of count * stride over `terms`."""
        for count, stride in terms:
            a, b = (ir.Constant(I64, t) if isinstance(t, int) else t for t in (count, stride))
            base = self.builder.add(base, self.builder.mul(a, b))
        return base

    def load(self, kind: ir.Type, base: ir.Value, *terms: tuple[Any, Any]) -> ir.Value:
        return self.builder.load(pointer(self.builder, self.at(base, *terms), kind), align=1)

    def row(self, r: int, field: int) -> ir.Value:
        """A field of the table's row: where the row's source, target, residual or scale lies."""
        return self.load(I64, self.table, (r, ROW_BYTES), (field, 8))

    def start_with_zeros(self) -> None:
        for place in ((r, c) for c in range(self.columns) for r in range(self.rows)):
            self.sums[place] = cgutils.alloca_once_value(self.builder, ir.Constant(WORDS, None))

    def start(self, e: Epilogue) -> None:
        """The sums begin with the bias, less what the zero point adds to them."""
        builder = self.builder
        zero = splat(builder, builder.trunc(e.zero, I32))
        for c in range(self.columns):
            at = self.at(e.channels, (c, 4 * VECTOR_BYTES))
            weights = self.load(WORDS, at, (1, VECTOR_BYTES))
            first = builder.sub(self.load(WORDS, at), builder.mul(zero, weights))
            for r in range(self.rows):
                self.sums[r, c] = cgutils.alloca_once_value(builder, first)
        if self.kind in BOTH:
            for r in range(self.rows):
                more = splat(builder, builder.trunc(self.row(r, 2), I32))
                for c in range(self.columns):
                    builder.store(builder.add(builder.load(self.sums[r, c]), more), self.sums[r, c])

    def step(self, rows: list[ir.Value], weights: ir.Value, index: int = 0) -> None:
        """Adds the products of CHANNELS channels to the sums; `weights` are those of step 0."""
        groups, columns = CHANNELS // channels_of(self.kind), range(self.columns)
        self.multiply(rows, self.at(weights, (index * groups * len(columns), VECTOR_BYTES)), groups, columns)

    def steps(self, starts: list[ir.Value], line: ir.Value, weight_at: ir.Value, count: ir.Value) -> None:
        """A loop of steps."""
        with cgutils.for_range(self.builder, count) as step:
            at = self.at(line, (step.index, CHANNELS * bytes_of(self.kind)))
            self.step([self.builder.add(start, at) for start in starts], self.builder.load(weight_at))
            self.advance(weight_at, CHANNELS // channels_of(self.kind))

    def advance(self, weight_at: ir.Value, rows: int) -> None:
        """Moves on by `rows` times the vectors of all columns."""
        at = self.builder.load(weight_at)
        self.builder.store(self.at(at, (rows * self.columns, VECTOR_BYTES)), weight_at)

    def multiply(self, rows: list[ir.Value], weights: ir.Value, groups: int, columns: range) -> None:
        """Adds the products of `groups` successive lanes of channels to the sums of some columns."""
        size = channels_of(self.kind) * bytes_of(self.kind)
        for k in range(groups):
            vectors = [self.load(WORDS, weights, (k * len(columns) + i, VECTOR_BYTES)) for i in range(len(columns))]
            for r, row in enumerate(rows):
                a = splat(self.builder, self.load(I32, row, (k, size)))
                for c, vector in zip(columns, vectors):
                    self.add(self.sums[r, c], a, vector)

    def add(self, slot: ir.Value, a: ir.Value, w: ir.Value) -> None:
        builder = self.builder
        total = builder.load(slot)
        if self.kind in VNNI:
            builder.store(dot_bytes(builder, total, a, w), slot)
            return
        if self.kind == "w16":
            products = pairs(builder, builder.bitcast(a, HALVES), builder.bitcast(w, HALVES))
        else:
            products = pairs(builder, byte_pairs(builder, a, w), ir.Constant(HALVES, [1] * (2 * LANES)))
        builder.store(held(builder, builder.add(total, products)), slot)

    def reduce(self, panel: ir.Value, weights: ir.Value, walk: Walk) -> None:
        builder = self.builder
        starts = [builder.add(panel, self.row(r, 0)) for r in range(self.rows)]
        weight_at = cgutils.alloca_once_value(builder, weights)
        with cgutils.for_range(builder, walk.height) as y, cgutils.for_range(builder, walk.width) as x:
            line = self.at(ir.Constant(I64, 0), (y.index, walk.source_row), (x.index, walk.source_column))
            left = walk.steps
            if self.kind == "ubs":
                whole = builder.mul(walk.gathered, builder.sdiv(walk.steps, ir.Constant(I64, STEPS)))
                with cgutils.for_range(builder, whole) as block:
                    at = self.at(line, (block.index, GATHER))
                    if self.rows * self.columns <= STEPS:
                        self.block([builder.add(start, at) for start in starts], weight_at, STEPS)
                    else:  # registers are scarce
                        self.steps(starts, at, weight_at, ir.Constant(I64, STEPS))
                        self.block([builder.add(start, at) for start in starts], weight_at, 0)
                line, left = self.at(line, (whole, GATHER)), self.at(left, (whole, -STEPS))
            self.steps(starts, line, weight_at, left)
            if self.kind == "ubs":
                with builder.if_then(builder.icmp_signed(">", builder.mul(walk.gathered, left), ir.Constant(I64, 0))):
                    self.block([builder.add(start, line) for start in starts], weight_at, 0)
        columns = range(self.columns)
        if self.kind == "ubs":
            extra_at = cgutils.alloca_once_value(builder, walk.extras)
            for c in columns:
                at = builder.load(extra_at)
                count = self.load(I64, at)
                with cgutils.for_range(builder, count) as extra:
                    offset = self.load(I64, at, (extra.index, 8), (1, 8))
                    w = builder.load(weight_at)
                    self.multiply([builder.add(start, offset) for start in starts], w, 1, range(c, c + 1))
                    builder.store(self.at(w, (1, VECTOR_BYTES)), weight_at)
                builder.store(self.at(at, (count, 8), (1, 8)), extra_at)

    def block(self, rows: list[ir.Value], weight_at: ir.Value, steps: int) -> None:
        """Some steps and a gathered step, which is spread among them: it loads more than it multiplies."""
        weights = self.builder.load(weight_at)
        gathers = self.at(weights, (steps * GROUPS * self.columns, VECTOR_BYTES))
        places = [(r, c) for r in range(self.rows) for c in range(self.columns)]
        for step in range(steps):
            self.step([self.at(row, (step, CHANNELS)) for row in rows], weights, step)
            for r, c in places[step * len(places) // STEPS : (step + 1) * len(places) // STEPS]:
                self.gather(r, c, rows[r], gathers)
        for r, c in places[steps * len(places) // STEPS :]:
            self.gather(r, c, rows[r], gathers)
        self.advance(weight_at, steps * GROUPS + PICKS + 1)

    def gather(self, r: int, c: int, row: ir.Value, weights: ir.Value) -> None:
        """Adds the products of the channels that each lane picks, all operands read from memory."""
        builder, undefined = self.builder, ir.Constant(SIXTEEN, ir.Undefined)
        again = ir.Constant(ir.VectorType(I32, 4 * LANES), [i % 16 for i in range(4 * LANES)])
        w = builder.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [weights], side_effect=True)
        picked = ir.Constant(OCTETS, None)
        for k in range(PICKS):
            some = builder.shuffle_vector(self.load(SIXTEEN, row, (k, 16)), undefined, again)
            order = self.load(OCTETS, w, (k * self.columns + c, VECTOR_BYTES))
            picked = builder.or_(picked, call_llvm(builder, _SHUFFLES[current().name], OCTETS, [some, order]))
        self.add(self.sums[r, c], picked, self.load(WORDS, w, (PICKS * self.columns + c, VECTOR_BYTES)))

    def store_sums(self, e: Epilogue) -> None:
        for (r, c), slot in self.sums.items():
            target = self.at(e.target, (self.row(r, 1), 1), (c, e.target_column))
            write(self.builder, self.builder.load(slot), target, None)

    def finish(self, e: Epilogue, floats: bool) -> None:
        """Requantises and stores; of the last column `tail` lanes."""
        builder, limits = self.builder, Limits(self.builder, e.limits)
        places, values = list(self.sums), []
        is_tight = (self.rows + 1) * self.columns > current().registers - 3  # then loops spill for the epilogue's sake
        for (r, c), total in self.sums.items():
            multiplier = self.load(FLOATS, e.channels, (4 * c + 2, VECTOR_BYTES))
            if floats:
                multiplier = builder.fmul(splat(builder, self.load(F32, e.row_scale, (self.row(r, 3), 1))), multiplier)
            done = builder.load(total)
            values.append(as_floats(builder, held(builder, done) if is_tight else done, multiplier))

        def bias(i: int) -> ir.Value:
            return self.load(FLOATS, e.channels, (4 * places[i][1] + 3, VECTOR_BYTES))

        def residual_at(i: int) -> ir.Value:
            r, c = places[i]
            return self.at(e.residual, (self.row(r, 2), 1), (c, e.residual_column))

        if floats:
            values = [limited(builder, builder.fadd(value, bias(i)), limits) for i, value in enumerate(values)]
        else:
            values = shifted(builder, values, bias, limits, e.residual, residual_at)
        for c in range(self.columns):
            column = values[c * self.rows : (c + 1) * self.rows]
            for r, value in enumerate(column if floats else as_bytes(builder, column, limits)):
                target = self.at(e.target, (self.row(r, 1), 1), (c, e.target_column))
                write(builder, value, target, e.tail if c == self.columns - 1 else None)


def pairs(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """Products of 16-bit elements, the two of a lane added in 32 bits."""
    name = _PAIRS.get(current().name)
    if name is not None:
        return call_llvm(builder, name, WORDS, [a, b])
    wide = ir.VectorType(I32, 2 * LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    halves = (ir.Constant(WORDS, [2 * i + odd for i in range(LANES)]) for odd in (0, 1))
    return builder.add(*(builder.shuffle_vector(products, ir.Constant(wide, ir.Undefined), half) for half in halves))


_SHUFFLES = {"avx512": "llvm.x86.avx512.pshuf.b.512", "avx2": "llvm.x86.avx2.pshuf.b"}
_PAIRS = {
    "avx512": "llvm.x86.avx512.pmaddw.d.512",
    "avx2": "llvm.x86.avx2.pmadd.wd",
    "generic": "llvm.x86.sse2.pmadd.wd",
}


def byte_pairs(builder: ir.IRBuilder, a: ir.Value, w: ir.Value) -> ir.Value:
    """Products of unsigned by signed bytes, two of them added in 16 bits, saturating."""
    names = {"avx512": "llvm.x86.avx512.pmaddubs.w.512", "avx2": "llvm.x86.avx2.pmadd.ub.sw"}
    return call_llvm(
        builder, names[current().name], HALVES, [builder.bitcast(a, OCTETS), builder.bitcast(w, OCTETS)]
    )


def dot_bytes(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, w: ir.Value) -> ir.Value:
    """total + the four products of unsigned by signed bytes of each lane, whether there is an instruction or not."""
    a, w = builder.bitcast(a, OCTETS), builder.bitcast(w, OCTETS)
    if byte_products():
        return call_llvm(builder, f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", WORDS, [total, a, w])
    wide = ir.VectorType(I32, 4 * LANES)
    products = builder.mul(builder.zext(a, wide), builder.sext(w, wide))
    for k in range(4):
        lanes = ir.Constant(WORDS, [4 * i + k for i in range(LANES)])
        total = builder.add(total, builder.shuffle_vector(products, ir.Constant(wide, ir.Undefined), lanes))
    return total


def dot_pairs(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """total + the two products of 16-bit elements of each lane, by one instruction where there is one."""
    if not byte_products():
        return held(builder, builder.add(total, pairs(builder, a, b)))
    operands = [total, builder.bitcast(a, WORDS), builder.bitcast(b, WORDS)]
    return call_llvm(builder, f"llvm.x86.avx512.vpdpwssd.{32 * LANES}", WORDS, operands)


def held(builder: ir.IRBuilder, total: ir.Value) -> ir.Value:
    """The same sum, in an order that LLVM cannot change: it would keep many products at once, and spill sums."""
    register = {"avx512": "v", "neon": "w"}.get(current().name, "x")
    kind = ir.FunctionType(WORDS, [WORDS])
    return builder.asm(kind, "", f"={register},0", [total], side_effect=True)


@cache
def make_integer_tile(kind: str, rows: int, columns: int, result: str) -> Any:
    """The tile as an intrinsic `tile(table, panel, weights, walk, epilogue)`; everything is int64.

    The table has a row of ROW_BYTES for each row of the tile: where its source lies in the panel, its target, its
    residual and its scale, counted from the addresses in walk and epilogue. Results are "bytes", "floats", or
    "sums", of which target, target_column and the table decide where they go.
    """

    @intrinsic
    def tile(typingctx, table, panel, weights, walk, epilogue):
        def codegen(context, builder, sig, args):
            emitter = Emitter(builder, kind, rows, columns, args[0])
            e = Epilogue(*cgutils.unpack_tuple(builder, args[4]))
            if result == "sums":
                emitter.start_with_zeros()
            else:
                emitter.start(e)
            emitter.reduce(args[1], args[2], Walk(*cgutils.unpack_tuple(builder, args[3])))
            if result == "sums":
                emitter.store_sums(e)
            else:
                emitter.finish(e, result == "floats")
            return context.get_dummy_value()

        shapes = types.Tuple([types.int64] * len(Walk._fields)), types.Tuple([types.int64] * len(Epilogue._fields))
        return types.void(*[types.int64] * 3, *shapes), codegen

    return tile
