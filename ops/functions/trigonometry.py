"""Trigonometric and hyperbolic functions and their inverses on float32 vectors.

Errors are stated as in `vector_math`. Angles of any size are reduced exactly enough. The polynomials are those of
Cephes (S. Moshier), for float32.
"""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, lazy
from cpuruntime.ops.functions.vector_math import LN2, ROUNDER, ROUNDER_BITS, copy_sign, exp, expm1, log

simd = lazy("cpuruntime.compiler.simd")
large_angles = lazy("cpuruntime.ops.functions.large_angles")

TWO_OVER_PI = 0.636619772367581343
HALF_PI, QUARTER_PI = 1.57079632679489662, 0.785398163397448310
# pi / 2 in four parts; the first three have 11 bits, so that their products with 13 bits are exact.
PART1, PART2, PART3, PART4 = 1.5703125, 4.837512969970703e-4, 7.549533620476723e-8, 2.563344151594519e-12
FEW = 12000.0  # angles up to here are less than 2^13 quarter turns


@inline
def _reduced(x):
    """(k, r) with x = k pi / 2 + r, for |x| up to `FEW`."""
    shifted = x * TWO_OVER_PI + ROUNDER
    n = shifted - ROUNDER
    # The first two differences are exact; what the third one's rounding leaves out is added with the last.
    start = (x - n * PART1) - n * PART2
    middle = start - n * PART3
    rest = (start - middle) - n * PART3
    return simd.as_words(shifted) - ROUNDER_BITS, middle + (rest - n * PART4)


@inline
def _turned(x):
    """(k, r) with x = k pi / 2 + r, up to whole turns, and |r| <= pi / 4; r is NaN where x is not finite."""
    turns, rest = _reduced(x)
    size = simd.absolute(x)
    if simd.max_lanes(size) > FEW:
        many, small = large_angles.quarter_turns(x)
        turns = simd.select(size > FEW, many, turns)
        rest = simd.select(size > FEW, small, rest)
    return turns, rest + x * 0.0


@inline
def _sine(r, square):
    """sin(r) on |r| <= pi / 4."""
    p = square * -1.9515295891e-4 + 8.3321608736e-3
    p = p * square - 1.6666654611e-1
    return p * square * r + r


@inline
def _cosine(square):
    """cos(r) on |r| <= pi / 4."""
    p = square * 2.443315711809948e-5 - 1.388731625493765e-3
    p = p * square + 4.166664568298827e-2
    return (p * square - 0.5) * square + 1.0


@inline
def _flipped(value, turns):
    """`value` with the other sign where bit 1 of `turns` is set."""
    return simd.as_floats(simd.as_words(value) ^ ((turns & 2) << 30))


@inline
def sine(x):
    """sin(x), to 1.6 ulp."""
    turns, r = _turned(x)
    square = r * r
    value = simd.select((turns & 1) == 0, _sine(r, square), _cosine(square))
    return simd.select(x == 0.0, x, _flipped(value, turns))


@inline
def cosine(x):
    """cos(x), to 1.6 ulp."""
    turns, r = _turned(x)
    square = r * r
    value = simd.select((turns & 1) == 0, _cosine(square), _sine(r, square))
    return _flipped(value, turns + 1)


@inline
def tangent(x):
    """tan(x), to 4 ulp."""
    turns, r = _turned(x)
    square = r * r
    s, c = _sine(r, square), _cosine(square)
    value = simd.select((turns & 1) == 0, s / c, (0.0 - c) / s)
    return simd.select(x == 0.0, x, value)


@inline
def arctangent(x):
    """arctan(x), to 3 ulp."""
    size = simd.absolute(x)
    large, middle = size > 2.414213562373095, size > 0.4142135623730950
    reduced = simd.select(middle, (size - 1.0) / (size + 1.0), size)
    reduced = simd.select(large, -1.0 / size, reduced)
    offset = simd.select(middle, simd.broadcast(QUARTER_PI), simd.broadcast(0.0))
    offset = simd.select(large, simd.broadcast(HALF_PI), offset)
    square = reduced * reduced
    p = square * 8.05374449538e-2 - 1.38776856032e-1
    p = p * square + 1.99777106478e-1
    p = p * square - 3.33329491539e-1
    return simd.select(x == x, copy_sign(offset + (p * square * reduced + reduced), x), x)


@inline
def _small_arcsine(x, square):
    """arcsin(x) on |x| <= 1/2."""
    p = square * 4.2163199048e-2 + 2.4181311049e-2
    p = p * square + 4.5470025998e-2
    p = p * square + 7.4953002686e-2
    p = p * square + 1.6666752422e-1
    return p * square * x + x


@inline
def arcsine(x):
    """arcsin(x), to 3 ulp; NaN beyond 1."""
    size = simd.absolute(x)
    far = size > 0.5
    square = simd.select(far, (1.0 - size) * 0.5, size * size)
    root = simd.select(far, simd.sqrt(square), size)
    value = _small_arcsine(root, square)
    return copy_sign(simd.select(far, HALF_PI - value * 2.0, value), x)


@inline
def arccosine(x):
    """arccos(x), to 3 ulp; NaN beyond 1."""
    size = simd.absolute(x)
    far = size > 0.5
    square = simd.select(far, (1.0 - size) * 0.5, x * x)
    root = simd.select(far, simd.sqrt(square), x)
    value = _small_arcsine(root, square)
    twice = value * 2.0
    return simd.select(far, simd.select(x < 0.0, 3.14159265358979324 - twice, twice), HALF_PI - value)


@inline
def hyperbolic_sine(x):
    """sinh(x), to 3 ulp."""
    size = simd.absolute(x)
    e = expm1(simd.minimum(simd.broadcast(80.0), size))
    near = (e + e / (e + 1.0)) * 0.5
    far = exp(size * 0.5)
    return copy_sign(simd.select(size < 80.0, near, far * 0.5 * far), x)


@inline
def hyperbolic_cosine(x):
    """cosh(x), to 3 ulp."""
    size = simd.absolute(x)
    half = exp(size * 0.5)
    e = exp(simd.minimum(simd.broadcast(80.0), size))
    return simd.select(size < 80.0, (e + 1.0 / e) * 0.5, half * 0.5 * half)


@inline
def _log1p(x):
    """log(1 + x) for x >= 0, to 3 ulp."""
    y = x + 1.0
    result = log(y) + (x - (y - 1.0)) / y
    result = simd.select(x < 1e-4, x - x * x * 0.5, result)
    return simd.select(y == float("inf"), y, result)


@inline
def inverse_hyperbolic_sine(x):
    """arsinh(x), to 4 ulp."""
    size = simd.absolute(x)
    square = size * size
    near = _log1p(size + square / (simd.sqrt(square + 1.0) + 1.0))
    return copy_sign(simd.select(size < 1e8, near, log(size) + LN2), x)


@inline
def inverse_hyperbolic_cosine(x):
    """arcosh(x), to 4 ulp; NaN below 1."""
    t = x - 1.0
    near = _log1p(t + simd.sqrt(t * 2.0 + t * t))
    return simd.select(x < 1.0, simd.broadcast(float("nan")), simd.select(x < 1e8, near, log(x) + LN2))


@inline
def inverse_hyperbolic_tangent(x):
    """artanh(x), to 4 ulp; NaN beyond 1."""
    size = simd.absolute(x)
    result = copy_sign(_log1p(size * 2.0 / (1.0 - size)) * 0.5, x)
    return simd.select(size > 1.0, simd.broadcast(float("nan")), result)


