"""Variants of operators: random attributes, shapes and types, a function each."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from evaluation.variants import (
    elementwise,
    indexing,
    movement,
    products,
    recurrent,
    reductions,
    sampling,
    tabular,
    windows,
)
from evaluation.variants.variant import Draw, Variant

GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    name: generate
    for family in (elementwise, indexing, movement, products, recurrent, reductions, sampling, tabular, windows)
    for name, generate in family.GENERATORS.items()
}
"""A function that makes a variant, by operator."""


def variant(op_type: str, seed: int) -> Variant:
    """The variant of an operator with this number: always the same one."""
    return GENERATORS[op_type](Draw([zlib.crc32(op_type.encode()), seed]))
