"""How compressed weights lie in memory: their kinds, and the order in which kernels read them.

A panel has `COLUMNS` vectors of output columns; the last one is moved left until it ends with the last vector. Of u8
and u4 a 32-bit lane holds `per_word` successive weights of one column, and a panel is [word][COLUMNS][LANES], with
scales [group][COLUMNS][LANES]; of f16 and bf16 a panel is [inner][COLUMNS][LANES].
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, converts_halves

COLUMNS = 4

BITS = {"u8": 8, "u4": 4, "f16": 16, "bf16": 16}
"""The bits of a weight, by kind."""

LARGEST_GROUP = 256
"""Weights that share a scale, at most: so many products of 8 by 16 bits fit a sum of 32 bits."""

FACTS = 8
"""Bytes that say of a group of a row what it was divided by (float32), and the sum of its numbers (int32)."""

ROW_LIMIT = 32767
"""The numbers of a row that is quantised are within this, positive and negative."""


def is_integer(kind: str) -> bool:
    """Whether weights of a kind are integers in groups with scales."""
    return BITS[kind] < 16


def has_kind(kind: str) -> bool:
    """Whether the instruction set in use reads weights of a kind."""
    return kind != "f16" or converts_halves()


def per_word(kind: str) -> int:
    """Weights in a 32-bit lane."""
    return 32 // BITS[kind]


def shifts(kind: str) -> list[int]:
    """By how many bits each of the successive weights of a lane is shifted.

    Masking the lane by the lowest weight of both its halves gives the first two, and so on.
    """
    bits = BITS[kind]
    return [half + bits * place for place in range(16 // bits) for half in (0, 16)]


def panels(columns: int) -> list[int]:
    """The first block of each panel of a product with so many columns."""
    blocks = -(-columns // LANES)
    return [min(first, blocks - COLUMNS) for first in range(0, blocks, COLUMNS)]


def panel_bytes(kind: str, inner: int) -> int:
    """Bytes of the weights of a panel; `inner` is a whole number of groups."""
    return inner * COLUMNS * VECTOR_BYTES * BITS[kind] // 32
