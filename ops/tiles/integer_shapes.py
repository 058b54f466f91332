"""Which integer tiles exist: their kinds, and the shapes that keep every sum in a register.

A test compiles each shape and holds it at zero spills.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, byte_products, byte_tiles, current
from cpuruntime.compiler.kernel import record

CHANNELS = 8
"""Channels of a step of the reduction; panels are padded to whole steps."""

GATHER, PICKS = 64, 4
"""Channels that a gathered step picks from; these are PICKS vectors of 16 bytes, and as many bytes fit a lane."""

ROW_BYTES = 32
"""A row of the table of a tile: where its source, target, residual and scale lie; int64."""

# What epilogues read from memory, so that it takes no registers before. A result of bytes is within int32, also with
# `zero`, then at least `least` and at most `most` as an unsigned byte, which `flip` (0 or 128) makes signed. `low` and
# `high` are the limits of a float32 result. `has_bias`: there are biases of float32. `has_inner`: what a residual is
# added to is limited to `inner_low` .. `inner_high`, rounded and multiplied by `inner_scale` before. Residuals are
# bytes, `residual_flip` makes them unsigned.
LIMITS = record(
    "zero least most flip has_bias has_inner residual_zero residual_flip",
    **dict.fromkeys(("low", "high", "inner_low", "inner_high", "inner_scale", "residual_scale"), "f4"),
)


VNNI = ("vnni", "vnni_both")
"""The kinds that take vpdpbusd."""

AMX = ("amx", "amx_both")
"""The kinds that take tdpbusd."""

BOTH = ("vnni_both", "amx_both")
"""The kinds for weights that are activations."""

SIDE, TILE_BYTES = 16, 64
"""Rows of a tile register, and the bytes of one. AMX reads weights as VNNI does, in runs of whole tiles."""


def features_of(kind: str) -> str:
    """LLVM's names of what kernels of a kind use beyond the instruction set, where the processor has it."""
    found = byte_products() if kind in (*VNNI, *AMX) else "", byte_tiles() if kind in AMX else ""
    return ",".join(filter(None, found))


def channels_of(kind: str) -> int:
    """Channels in a 32-bit lane."""
    return 2 if kind == "w16" else 4


def bytes_of(kind: str) -> int:
    """Bytes of an activation or a weight."""
    return 2 if kind == "w16" else 1


_SHAPES = {
    ("avx512", "w16"): ((8, 3), (7, 3), (8, 2), (7, 2), (6, 2), (4, 2), (2, 4), (1, 8), (1, 4), (8, 1), (4, 1), (1, 1)),
    ("avx512", "ubs"): ((8, 2), (6, 2), (4, 2), (2, 4), (1, 8), (1, 4), (8, 1), (4, 1), (1, 1)),
    ("avx2", "w16"): ((6, 2), (5, 2), (4, 2), (2, 4), (1, 6), (8, 1), (4, 1), (1, 1)),
    ("avx2", "ubs"): ((5, 2), (4, 2), (2, 4), (1, 6), (8, 1), (4, 1), (1, 1)),
    ("generic", "w16"): ((4, 2), (2, 4), (1, 4), (8, 1), (4, 1), (1, 1)),
    ("neon", "w16"): ((8, 2), (4, 2), (1, 4), (4, 1), (1, 1)),
}

AMX_SHAPES = tuple((rows, count * SIDE // LANES) for rows, count in ((32, 2), (16, 4), (16, 2), (32, 1)))
"""Those of the tile registers, of which there are eight: for sums, for rows, and one more at least for weights."""


def integer_shapes(kind: str) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of the tiles of a kind for the instruction set in use."""
    if kind in AMX:
        return AMX_SHAPES
    return _SHAPES[current().name, "w16" if kind in VNNI else kind]


@cache
def kinds() -> tuple[str, ...]:
    """The kinds of tile for constant weights that the instruction set in use has."""
    found = tuple(kind for name, kind in _SHAPES if name == current().name)
    return (*found, *["vnni"] * bool(byte_products()), *["amx"] * bool(byte_tiles()))
