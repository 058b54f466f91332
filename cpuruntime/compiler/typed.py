"""Element access of any type for kernels made in factories, without loading the compiler before it is needed."""

from __future__ import annotations

from functools import partial

import numpy as np

from cpuruntime.compiler.kernel import Inline, inline, lazy, made

scalars = lazy("cpuruntime.compiler.scalars")

FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
INTEGERS = (*SIGNED, "uint8", "uint16", "uint32", "uint64")
HALVES = ("float16", "bfloat16")
SIZES = {name: np.dtype(name).itemsize for name in ("bool", *INTEGERS, *FLOATS)} | dict.fromkeys(HALVES, 2)


def stored_as(dtype: str) -> str:
    """The element type a kernel loads and stores: half types travel as their bits."""
    return "uint16" if dtype in HALVES else dtype


_scalar = partial(made, "cpuruntime.compiler.scalars")
# Of an element type: the helpers load(base, index), store(base, index, value), and the cast of a number to it.
load, store, as_element = (partial(_scalar, name) for name in ("load", "store", "as_element"))


def convert(source: str, target: str) -> Inline:
    """The helper convert(value) from one element type to another, the half types as their bits."""
    decode, encode = DECODE.get(source), ENCODE.get(target)
    middle = _scalar("convert", "float32" if decode else source, "float32" if encode else target)
    if decode is None and encode is None:
        return middle
    first, last = decode or _same, encode or _same

    @inline
    def run(value):
        return last(middle(first(value)))

    return run


@inline
def _same(value):
    return value


@inline
def _from_float16(half):
    shifted = scalars.from_bits((half & 0x7FFF) << 13)
    bits = scalars.bits(shifted * scalars.from_bits(0x77800000))  # times 2^112, which also normalises denormals
    if (half & 0x7C00) == 0x7C00:
        bits = bits | 0x7F800000
    return scalars.from_bits(bits | (half & 0x8000) << 16)


@inline
def _to_float16(value):
    """Rounds to nearest, ties to even; NaN becomes a quiet NaN."""
    bits = scalars.bits(value)
    magnitude = bits & 0x7FFFFFFF
    normal = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13
    # Adding 1/2 leaves the rounded multiple of 2^-24 in the lowest bits.
    denormal = scalars.bits(scalars.from_bits(magnitude) + scalars.from_bits(0x3F000000)) - 0x3F000000
    result = denormal if magnitude < 0x38800000 else normal
    if magnitude >= 0x47800000:
        result = 0x7E00 if magnitude > 0x7F800000 else 0x7C00
    return result | ((bits >> 16) & 0x8000)


@inline
def _from_bfloat16(half):
    return scalars.from_bits(half << 16)


@inline
def _to_bfloat16(value):
    """Rounds to nearest, ties to even; NaN becomes a quiet NaN."""
    bits = scalars.bits(value)
    rounded = ((bits & 0x7FFFFFFF) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    result = 0x7FC0 if (bits & 0x7FFFFFFF) > 0x7F800000 else rounded
    return result | ((bits >> 16) & 0x8000)


DECODE: dict[str, Inline] = {"float16": _from_float16, "bfloat16": _from_bfloat16}
ENCODE: dict[str, Inline] = {"float16": _to_float16, "bfloat16": _to_bfloat16}
