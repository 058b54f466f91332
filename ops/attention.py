"""Attention: target = softmax(scale * query @ key^T + mask) @ value, without scores for more than a block of queries.

A thread takes one block of one head's queries after the other. It packs the head's keys and values for register tiles
when it comes to another head, and keeps the block's scores in scratch memory of its own between the two products.
A single query, as in each step that generates a token, reads keys and values where they lie instead.
Queries, keys, values and results lie anywhere that strides lead to, so heads need not be transposed for it.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.elementwise import some
from cpuruntime.ops.functions.vector_math import exp_or_zero
from cpuruntime.ops.movement import transpose_tile
from cpuruntime.ops.tiles.tile_shapes import tile_shapes

simd = lazy("cpuruntime.compiler.simd")

UNROLL = 4
ROWS, COLUMNS = tile_shapes()[0]
VALUE_COLUMNS = (2, 3, 1)  # vectors of the second product's tile: which there are kernels for
ZEROS = max(COLUMNS, *VALUE_COLUMNS) * LANES
"""Zeros that the argument `zeros` points at."""

# Strides are bytes. Queries, values and results are contiguous along their last axis; of key_row and key_column one is
# 4. `group` successive heads share keys and values, whose head stride is from one group to the next. mask is 0 or the
# address of summands, whose strides may be 0. With `causal`, query i sees the keys up to i + offset. Packed rows of
# queries have `query_words` words of 4 bytes, and columns of keys; columns of values have `value_words`. scratch: one
# piece of scratch_size bytes for each thread, laid out by `scratch_layout`.
ARGUMENTS = record(
    "query query_batch query_head query_row key key_batch key_head key_row key_column "
    "value value_batch value_head value_row mask mask_batch mask_head mask_row mask_column "
    "target target_batch target_head target_row batch heads group queries keys depth width "
    "block causal offset zeros scratch scratch_size values_at queries_at scores_at results_at factors_at scores_row "
    "results_row query_words value_words", scale="f4",
)  # fmt: skip


def value_columns(width: int) -> int:
    """The number of vectors in a tile of the second product that wastes least on `width` floats."""
    blocks = -(-width // LANES)
    return min(VALUE_COLUMNS, key=lambda c: -(-blocks // c) * (c + (c == 1)))


def scratch_layout(
    keys: int, depth: int, width: int, block: int, words: tuple[int, int] | None = None
) -> dict[str, int]:
    """The fields from scratch_size on, for blocks of `block` queries, a multiple of ROWS.

    `words` are `query_words` and `value_words` where those are not one for each float.
    """
    query_words, value_words = words or (depth, keys)
    tile = value_columns(width)
    key_blocks = -(-keys // (COLUMNS * LANES)) * COLUMNS
    value_blocks = -(-width // (tile * LANES)) * tile
    # An odd number of vectors: rows of a tile lie in different cache sets.
    fields = {"scores_row": (key_blocks // 2 * 2 + 1) * VECTOR_BYTES, "results_row": value_blocks * VECTOR_BYTES}
    fields |= {"query_words": query_words, "value_words": value_words}
    position = key_blocks * query_words * VECTOR_BYTES
    for name, size in (
        ("values_at", value_blocks * value_words * VECTOR_BYTES),
        ("queries_at", block * query_words * 4),
        ("scores_at", block * fields["scores_row"]),
        ("results_at", block * fields["results_row"]),
        ("factors_at", block * 4),
    ):
        fields[name] = position
        position += -(-size // 64) * 64
    return fields | {"scratch_size": position}


def single_layout(keys: int, depth: int) -> dict[str, int]:
    """The same for `attention_single`."""
    scores_at = -(-depth * 4 // 64) * 64
    return {"queries_at": 0, "scores_at": scores_at, "scratch_size": scores_at + -(-keys * 4 // 64) * 64}


class Parts(NamedTuple):
    """What the operands of a precision take: their packing, the words of `keys` scores, and the two products.

    `finish` is for the scores of a row, when they are weights.
    """

    name: str
    pack_keys: Inline
    pack_values: Inline
    place_queries: Inline
    finish: Inline
    words: Inline
    products: tuple[Inline, Inline]


def product_of(tile: Inline) -> Inline:
    """The product by a tile of a row-major matrix."""

    @inline
    def product(a, source, source_row, weights, inner, target, target_row, count):
        """A tile's columns of the product of `count` rows of `inner` words, up to a multiple of ROWS, and weights."""
        for r in range(0, count, ROWS):
            tile(
                source + r * source_row, source_row, weights, inner % UNROLL,
                (1, 1, 1, inner // UNROLL, 0, 0, 0, 0, 0, 0, 0),
                (target + r * target_row, VECTOR_BYTES, target_row, 0, 0, 0, a.zeros, 0, LANES),
            )  # fmt: skip

    return product


@cache
@factory
def attention(tile_columns: int) -> Kernel:
    """Attention by tiles of ROWS x COLUMNS for the scores and ROWS x `tile_columns` for the results.

    Threads share blocks of queries.
    """

    def product(columns: int) -> Inline:
        return product_of(made("cpuruntime.ops.tiles.register_tile", "make_tile", ROWS, columns, UNROLL, None, True))

    products = product(COLUMNS), product(tile_columns)
    parts = Parts("attention_f32", _pack_keys, _pack_values, _place_queries, _keep, _as_many, products)
    return attention_kernel(parts, tile_columns)


def attention_kernel(parts: Parts, tile_columns: int, features: str = "") -> Kernel:
    """The kernel for a precision."""
    family, pack_keys, pack_values, place_queries, finish, words, (scores_product, results_product) = parts
    name = f"{family}{features}_{LANES}_{ROWS}x{COLUMNS}x{tile_columns}"

    @kernel(ARGUMENTS, name=name, family=family, tile=(ROWS, COLUMNS), features=features)
    def run(a, thread, threads):
        blocks = (a.queries + a.block - 1) // a.block
        items = a.batch * a.heads * blocks
        scratch, packed = a.scratch + thread * a.scratch_size, -1
        values, scores, results = scratch + a.values_at, scratch + a.scores_at, scratch + a.results_at
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            first, head, image = item % blocks * a.block, item // blocks % a.heads, item // blocks // a.heads
            shared = head // a.group
            if packed != image * a.heads + shared:
                packed = image * a.heads + shared
                pack_keys(a, a.key + image * a.key_batch + shared * a.key_head, scratch)
                pack_values(a, a.value + image * a.value_batch + shared * a.value_head, values, tile_columns)
            count = min(a.block, a.queries - first)
            query = a.query + image * a.query_batch + head * a.query_head + first * a.query_row
            place_queries(a, query, scratch + a.queries_at, count)
            keys = min(a.keys, first + count + a.offset) if a.causal != 0 else a.keys
            for t in range((keys + COLUMNS * LANES - 1) // (COLUMNS * LANES)):
                scores_product(
                    a, scratch + a.queries_at, a.query_words * 4, scratch + t * a.query_words * COLUMNS * VECTOR_BYTES,
                    a.query_words, scores + t * COLUMNS * VECTOR_BYTES, a.scores_row, count,
                )  # fmt: skip
            mask = a.mask + image * a.mask_batch + head * a.mask_head + first * a.mask_row
            for r in range(count):
                seen = min(a.keys, first + r + 1 + a.offset) if a.causal != 0 else a.keys
                factor = _weigh(a, scores + r * a.scores_row, mask + r * a.mask_row, seen, keys)
                finish(scores + r * a.scores_row, keys)
                simd.store_f32(scratch + a.factors_at + 4 * r, factor)
            for t in range(a.results_row // (tile_columns * VECTOR_BYTES)):
                results_product(
                    a, scores, a.scores_row, values + t * a.value_words * tile_columns * VECTOR_BYTES, words(keys),
                    results + t * tile_columns * VECTOR_BYTES, a.results_row, count,
                )  # fmt: skip
            target = a.target + image * a.target_batch + head * a.target_head + first * a.target_row
            for r in range(count):
                factor = simd.broadcast(simd.load_f32(scratch + a.factors_at + 4 * r))
                _scaled(results + r * a.results_row, target + r * a.target_row, a.width, factor)

    return run


@kernel(ARGUMENTS, name=f"attention_f32_{LANES}_single")
def attention_single(a, thread, threads):
    """Attention of one query. Threads share heads."""
    items = a.batch * a.heads
    scratch = a.scratch + thread * a.scratch_size
    query, scores = scratch + a.queries_at, scratch + a.scores_at
    one, scale = simd.broadcast(1.0), simd.broadcast(a.scale)
    keys = max(0, min(a.keys, 1 + a.offset)) if a.causal != 0 else a.keys
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        head, image = item % a.heads, item // a.heads
        shared = head // a.group
        _scaled(a.query + image * a.query_batch + head * a.query_head, query, a.depth, scale)
        key = a.key + image * a.key_batch + shared * a.key_head
        if a.key_column == 4:
            for k in range(keys):
                simd.store_f32(scores + 4 * k, _dot(query, key + k * a.key_row, a.depth))
        else:
            _weighted(query, a.depth, key, a.key_column, scores, keys, one)
        factor = _weigh(a, scores, a.mask + image * a.mask_batch + head * a.mask_head, keys, keys)
        value = a.value + image * a.value_batch + shared * a.value_head
        target = a.target + image * a.target_batch + head * a.target_head
        _weighted(scores, keys, value, a.value_row, target, a.width, simd.broadcast(factor))


@inline
def _dot(x, y, count):
    """The sum of products of floats."""
    even, odd = simd.broadcast(0.0), simd.broadcast(0.0)
    pairs = count - count % (2 * LANES)
    for i in range(0, pairs, 2 * LANES):
        even = simd.fma(simd.load(x + 4 * i), simd.load(y + 4 * i), even)
        odd = simd.fma(simd.load(x + 4 * i + VECTOR_BYTES), simd.load(y + 4 * i + VECTOR_BYTES), odd)
    for i in range(pairs, count, LANES):
        rest = min(LANES, count - i)
        even = simd.fma(simd.load_first(x + 4 * i, rest), simd.load_first(y + 4 * i, rest), even)
    return simd.sum_lanes(even + odd)


@inline
def _weighted(weights, count, source, row, target, width, factor):
    """target = factor * the sum of `count` rows of `width` floats, each with a weight."""
    fours = width - width % (4 * LANES)
    for i in range(0, fours, 4 * LANES):
        p, q, r, s = simd.broadcast(0.0), simd.broadcast(0.0), simd.broadcast(0.0), simd.broadcast(0.0)
        at = source + 4 * i
        for k in range(count):
            w = simd.broadcast(simd.load_f32(weights + 4 * k))
            p = simd.fma(w, simd.load(at), p)
            q = simd.fma(w, simd.load(at + VECTOR_BYTES), q)
            r = simd.fma(w, simd.load(at + 2 * VECTOR_BYTES), r)
            s = simd.fma(w, simd.load(at + 3 * VECTOR_BYTES), s)
            at += row
        place = target + 4 * i
        simd.store(place, p * factor)
        simd.store(place + VECTOR_BYTES, q * factor)
        simd.store(place + 2 * VECTOR_BYTES, r * factor)
        simd.store(place + 3 * VECTOR_BYTES, s * factor)
    for i in range(fours, width, LANES):
        lanes, p, at = min(LANES, width - i), simd.broadcast(0.0), source + 4 * i
        for k in range(count):
            p = simd.fma(simd.broadcast(simd.load_f32(weights + 4 * k)), simd.load_first(at, lanes), p)
            at += row
        simd.store_first(target + 4 * i, p * factor, lanes)


@inline
def _pack_keys(a, source, target):
    """Packs keys as the right side of a product: [tile][depth][COLUMNS][LANES], zeros beyond the last key."""
    for block in range((a.keys + COLUMNS * LANES - 1) // (COLUMNS * LANES) * COLUMNS):
        present = min(LANES, max(0, a.keys - block * LANES))
        at = source + block * LANES * a.key_row
        place = target + (block // COLUMNS * a.depth * COLUMNS + block % COLUMNS) * VECTOR_BYTES
        if a.key_column != 4 or present == 0:
            for d in range(a.depth):
                x = simd.load_first(at + d * a.key_column, present)
                simd.store(place + d * COLUMNS * VECTOR_BYTES, x)
        else:
            for d in range(0, a.depth, LANES):
                corner, dims = place + d * COLUMNS * VECTOR_BYTES, min(LANES, a.depth - d)
                transpose_tile(at + 4 * d, a.key_row, corner, COLUMNS * VECTOR_BYTES, present, dims, LANES)


@inline
def _pack_values(a, source, target, tile_columns):
    """Packs values as the right side of a product: [tile][key][tile_columns][LANES], zeros beyond the width."""
    for first in range(0, a.results_row // VECTOR_BYTES, tile_columns):
        for k in range(a.keys):
            for c in range(first, first + tile_columns):
                lanes = min(LANES, max(0, a.width - c * LANES))
                simd.store(target, simd.load_first(source + k * a.value_row + c * VECTOR_BYTES, lanes))
                target += VECTOR_BYTES


@inline
def _keep(row, keys):
    """Weights stay floats."""


@inline
def _as_many(keys):
    """A weight takes a word."""
    return keys


@inline
def _scaled(source, target, count, factor):
    full = count - count % LANES
    for i in range(0, full, LANES):
        simd.store(target + 4 * i, simd.load(source + 4 * i) * factor)
    simd.store_first(target + 4 * full, simd.load_first(source + 4 * full, count - full) * factor, count - full)


@inline
def _place_queries(a, source, target, count):
    """The block's queries times the scale, row after row; zeros up to a multiple of ROWS."""
    scale = simd.broadcast(a.scale)
    for r in range(count):
        _scaled(source + r * a.query_row, target + r * a.depth * 4, a.depth, scale)
    for i in range(count * a.depth, (count + ROWS - 1) // ROWS * ROWS * a.depth):
        simd.store_f32(target + 4 * i, 0.0)


@inline
def _weigh(a, row, mask, seen, keys):
    """Turns the scores of a row into exp(score - largest) for the first `seen` keys and zeros up to `keys`.

    Returns one divided by the sum.
    """
    lowest, zero = simd.broadcast(-float("inf")), simd.broadcast(0.0)
    largest, total = lowest, zero
    full = seen - seen % LANES
    for i in range(0, full, LANES):
        x = simd.load(row + 4 * i)
        if a.mask != 0:
            x = x + some(mask, a.mask_column, i, LANES)
            simd.store(row + 4 * i, x)
        largest = simd.maximum(x, largest)
    rest = seen - full
    last = simd.load_first(row + 4 * full, rest)
    if a.mask != 0 and rest != 0:
        last = last + some(mask, a.mask_column, full, rest)
    largest = simd.maximum(simd.select(simd.lanes_below(rest), last, lowest), largest)
    largest = simd.broadcast(simd.max_lanes(largest))
    for i in range(0, full, LANES):
        e = exp_or_zero(simd.load(row + 4 * i) - largest)
        simd.store(row + 4 * i, e)
        total = total + e
    if rest != 0:
        e = simd.select(simd.lanes_below(rest), exp_or_zero(last - largest), zero)
        simd.store(row + 4 * full, e)
        total = total + e
        full += LANES
    for i in range(full, keys, LANES):
        simd.store(row + 4 * i, zero)
    return 1.0 / simd.sum_lanes(total)
