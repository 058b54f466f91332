"""Products of rows with compressed weights: 8 and 4 bits in groups with a scale each, or 16-bit floating point numbers.

Few rows are read by each panel of weights, which become numbers in registers: that is bound by the weights' bytes. Of
integer weights the rows are quantised before, by `quantise_rows`. For many rows a thread widens a part of a panel into
scratch memory of its own, and the register tiles run over it.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.matmul import make_part
from cpuruntime.ops.tiles.compressed_shapes import BITS, COLUMNS, FACTS, ROW_LIMIT
from cpuruntime.ops.tiles.finish import make_buffer, make_finish

simd = lazy("cpuruntime.compiler.simd")
compressed_row = lazy("cpuruntime.ops.tiles.compressed_row")

WIDENED = 2
"""Columns of a panel that are widened at a time."""

ROUND, ROUND_BITS = 12582912.0, 0x4B400000
"""1.5 * 2**23, to which small numbers are added to be rounded to even, and its bits."""

SMALLEST = 1e-30
"""A group of a row with no larger number counts as zeros."""

ROWS_ARGUMENTS = record("source source_row target target_row facts facts_row rows inner groups group limit")


@kernel(ROWS_ARGUMENTS)
def quantise_rows(a, thread, threads):
    """Rows of float32 as 16-bit numbers, in `groups` of `group` (a number of whole vectors), zeros behind the last.

    `facts` get for each group of a row what the numbers were divided by, NaN if one of them is no number or infinite,
    and the sum of the results. Nothing is done where there are `limit` rows or more.
    """
    items = 0 if a.rows >= a.limit else a.rows * a.groups
    nothing = simd.broadcast(0.0)
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        row, group = item // a.groups, item % a.groups
        source = a.source + row * a.source_row + group * a.group * 4
        target = a.target + row * a.target_row + group * a.group * 2
        present = min(a.group, a.inner - group * a.group)
        most, probe = nothing, nothing
        for i in range(0, present, LANES):
            x = simd.load_first(source + 4 * i, min(LANES, present - i))
            most = simd.maximum(most, simd.absolute(x))
            probe = probe + simd.times(x, nothing)
        largest = simd.max_lanes(most)
        factor = ROW_LIMIT / largest if largest > SMALLEST else 0.0
        factors, total = simd.broadcast(factor), simd.words(0)
        for i in range(0, a.group, LANES):
            x = simd.load_first(source + 4 * i, max(0, min(LANES, present - i)))
            number = simd.as_words(simd.times(x, factors) + ROUND) - ROUND_BITS
            total = total + number
            compressed_row.store_shorts(target + 2 * i, number)
        facts = a.facts + row * a.facts_row + group * FACTS
        simd.store_f32(facts, largest / ROW_LIMIT + simd.sum_lanes(probe))
        simd.store_i32(facts + 4, compressed_row.sum_words(total))


# The fields of `matmul` that its parts read; `rows_at` and `facts` are what `quantise_rows` made, or rows as they are.
# `words` are those of a group, `groups` in all; of 16-bit weights `groups` is `inner`. `scratch` is for many rows.
ARGUMENTS = record(
    "source source_batch source_row target target_batch target_row residual residual_batch residual_row weights "
    "bias rows inner columns limits rows_at rows_step facts facts_row scales zeros zero groups words scratch "
    "scratch_size",
    alpha="f4", beta="f4",
)  # fmt: skip


def _name(what: str, kind: str, has_zeros: bool, activation: str) -> str:
    return f"compressed_{what}_{kind}{'z' if has_zeros else ''}_{LANES}" + (f"_{activation}" if activation else "")


@cache
@factory
def few_rows(kind: str, has_zeros: bool, activation: str = "") -> Kernel:
    """The product by weights of a kind of `compressed_shapes`, panel by panel; needs COLUMNS vectors of columns."""
    buffer, finish = make_buffer(1, COLUMNS, activation), make_finish(1, COLUMNS, activation)
    product = made("cpuruntime.ops.tiles.compressed_row", "make_row", kind, has_zeros)
    activated, bits, per_word = activation != "", BITS[kind], 32 // BITS[kind] if BITS[kind] < 16 else 1

    @kernel(ARGUMENTS, name=_name("rows", kind, has_zeros, activation))
    def run(a, thread, threads):
        buffered = buffer()
        blocks = (a.columns + LANES - 1) // LANES
        panels = (blocks + COLUMNS - 1) // COLUMNS
        size = a.groups * a.words * per_word * COLUMNS * LANES * bits // 8
        for panel in range(panels * thread // threads, panels * (thread + 1) // threads):
            block = min(panel * COLUMNS, blocks - COLUMNS)
            at = block * VECTOR_BYTES
            tail = min(LANES, a.columns - (block + COLUMNS - 1) * LANES)
            for row in range(a.rows):
                target = a.target + row * a.target_row + at
                product(
                    a.rows_at + row * a.rows_step,
                    a.facts + row * a.facts_row,
                    a.weights + panel * size,
                    a.scales + panel * a.groups * COLUMNS * VECTOR_BYTES,
                    a.zeros + panel * a.groups * COLUMNS * LANES,
                    a.zero, a.groups, a.words,
                    (
                        buffered if activated else target, VECTOR_BYTES, 0,
                        a.residual + row * a.residual_row + at if a.residual != 0 else 0, VECTOR_BYTES, 0,
                        a.bias + at, a.limits, tail,
                    ),
                )  # fmt: skip
                finish(a, buffered, target, 0, VECTOR_BYTES, tail)

    return run


@cache
@factory
def many_rows(kind: str, has_zeros: bool, rows: int, activation: str = "") -> Kernel:
    """The same product by tiles of `rows` x WIDENED on float32 weights; needs at least that many rows."""
    buffer, part = make_buffer(rows, WIDENED, activation), make_part(rows, WIDENED, activation)
    widen = made("cpuruntime.ops.tiles.compressed_row", "make_widening", kind, has_zeros, WIDENED)
    bits, per_word = BITS[kind], 32 // BITS[kind] if BITS[kind] < 16 else 1
    vector = VECTOR_BYTES if bits < 16 else VECTOR_BYTES // 2

    @kernel(ARGUMENTS, name=_name(f"tiles{rows}x{WIDENED}", kind, has_zeros, activation), tile=(rows, WIDENED))
    def run(a, thread, threads):
        buffered, scratch = buffer(), a.scratch + thread * a.scratch_size
        blocks = (a.columns + LANES - 1) // LANES
        parts = COLUMNS // WIDENED
        items = (blocks + COLUMNS - 1) // COLUMNS * parts
        size = a.groups * a.words * per_word * COLUMNS * LANES * bits // 8
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            panel, first = item // parts, item % parts * WIDENED
            block = min(panel * COLUMNS, blocks - COLUMNS) + first
            tail = min(LANES, a.columns - (block + WIDENED - 1) * LANES)
            widen(
                scratch,
                a.weights + panel * size + first * vector,
                a.scales + (panel * a.groups * COLUMNS + first) * VECTOR_BYTES,
                a.zeros + (panel * a.groups * COLUMNS + first) * LANES,
                a.zero, a.groups, a.words,
            )  # fmt: skip
            for t in range((a.rows + rows - 1) // rows):
                part(a, buffered, 0, min(t * rows, a.rows - rows), block, scratch, tail, scratch, False)

    return run
