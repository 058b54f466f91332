"""Attention whose products multiply bf16: queries, keys, weights and values are rounded to it, sums are float32."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, bf16_products
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, lazy, made
from cpuruntime.ops.attention import COLUMNS, ROWS, UNROLL, Parts, attention_kernel, product_of
from cpuruntime.ops.movement import transpose_tile

simd = lazy("cpuruntime.compiler.simd")
bf16 = lazy("cpuruntime.ops.tiles.bf16_tile")


def words_of(count: int) -> int:
    """Words that so many numbers take in whole vectors, with zeros behind them."""
    return -(-count // LANES) * LANES // 2


@cache
@factory
def bf16_attention(tile_columns: int) -> Kernel:
    """As `attention`; its scratch has rows of `words_of` depth and keys."""

    def product(columns: int) -> Inline:
        return product_of(made("cpuruntime.ops.tiles.bf16_tile", "make_bf16_tile", ROWS, columns, UNROLL, 0))

    products = product(COLUMNS), product(tile_columns)
    parts = Parts("bf16_attention", _pack_keys, _pack_values, _place_queries, _round, _words, products)
    return attention_kernel(parts, tile_columns, bf16_products())


@inline
def _words(keys):
    return (keys + LANES - 1) // LANES * LANES // 2


@inline
def _pack_keys(a, source, target):
    """Packs keys as the right side of a product: [tile][pair of depth][COLUMNS][LANES][2], zeros beyond both ends."""
    turned, zero = target + a.scores_at, simd.broadcast(0.0)  # the scores come later
    for block in range((a.keys + COLUMNS * LANES - 1) // (COLUMNS * LANES) * COLUMNS):
        present = min(LANES, max(0, a.keys - block * LANES))
        at = source + block * LANES * a.key_row
        place = target + (block // COLUMNS * a.query_words * COLUMNS + block % COLUMNS) * VECTOR_BYTES
        for d in range(0, a.depth, LANES):
            dims = min(LANES, a.depth - d) if present != 0 else 0
            if a.key_column != 4:
                for i in range(dims):
                    simd.store(turned + i * VECTOR_BYTES, simd.load_first(at + (d + i) * a.key_column, present))
            elif dims != 0:
                transpose_tile(at + 4 * d, a.key_row, turned, VECTOR_BYTES, present, dims, LANES)
            for i in range(dims, LANES):
                simd.store(turned + i * VECTOR_BYTES, zero)
            for i in range(0, LANES, 2):
                first, second = simd.load(turned + i * VECTOR_BYTES), simd.load(turned + (i + 1) * VECTOR_BYTES)
                bf16.store_pairs(place, first, second)
                place += COLUMNS * VECTOR_BYTES


@inline
def _pack_values(a, source, target, tile_columns):
    """Packs values as the right side of a product: [tile][pair of keys][tile_columns][LANES][2], with zeros."""
    for first in range(0, a.results_row // VECTOR_BYTES, tile_columns):
        for k in range(0, 2 * a.value_words, 2):
            for c in range(first, first + tile_columns):
                lanes = min(LANES, max(0, a.width - c * LANES))
                at = source + k * a.value_row + c * VECTOR_BYTES
                even = simd.load_first(at, lanes if k < a.keys else 0)
                odd = simd.load_first(at + a.value_row, lanes if k + 1 < a.keys else 0)
                bf16.store_pairs(target, even, odd)
                target += VECTOR_BYTES


@inline
def _place_queries(a, source, target, count):
    """The block's queries times the scale, row after row; zeros up to a multiple of ROWS."""
    scale = simd.broadcast(a.scale)
    for r in range((count + ROWS - 1) // ROWS * ROWS):
        present = a.depth if r < count else 0
        for d in range(0, 2 * a.query_words, LANES):
            x = simd.load_first(source + r * a.query_row + 4 * d, max(0, min(LANES, present - d)))
            bf16.store_bf16(target + r * a.query_words * 4 + 2 * d, x * scale)


@inline
def _round(row, keys):
    """Weights become bf16 where they lie."""
    for i in range(0, keys, LANES):
        bf16.store_bf16(row + 2 * i, simd.load(row + 4 * i))
