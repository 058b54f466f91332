"""Elementary functions on single float64 values: errors of a few units in the last place, of `power` up to 1e-13."""

from __future__ import annotations

from math import inf, log, nan

from cpuruntime.compiler.kernel import inline, lazy

scalars = lazy("cpuruntime.compiler.scalars")

LOG2_E = 1 / log(2)
# log(2) in two parts; the first has few bits, so that its products with whole numbers are exact.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
SQRT_HALF_BITS = 0x3FE6A09E00000000
TWO_52 = 4503599627370496.0
FRACTION, HIDDEN, EXPONENT, SIGN = (1 << 52) - 1, 1 << 52, 0x7FF, -(1 << 63)


@inline
def round_even(x):
    """x rounded to a whole number, ties to the even one, with the sign of x."""
    if not abs(x) < TWO_52:
        return x
    whole = (abs(x) + TWO_52) - TWO_52
    return scalars.double_of_bits(scalars.bits_of_double(whole) | (scalars.bits_of_double(x) & SIGN))


@inline
def round_down(x):
    whole = round_even(x)
    return whole - 1.0 if whole > x else whole


@inline
def round_up(x):
    whole = round_even(x)
    if whole < x:
        # A negative number rises to -0.
        return -0.0 if whole == -1.0 else whole + 1.0
    return whole


@inline
def exp(x):
    if x != x:
        return x
    if x > 709.79:
        return inf
    if x < -745.2:
        return 0.0
    k = round_even(x * LOG2_E)
    r = x - k * LN2_HIGH - k * LN2_LOW
    total = 1.0
    for n in range(13, 0, -1):
        total = 1.0 + total * r / n
    # Two factors, since 2^k alone may be too large or too small.
    power = int(k)
    half = power >> 1
    return total * scalars.double_of_bits((half + 1023) << 52) * scalars.double_of_bits((power - half + 1023) << 52)


@inline
def natural_log(x):
    if x != x or x == inf:
        return x
    if x <= 0.0:
        return -inf if x == 0.0 else nan
    exponent = 0
    if x < 2.2250738585072014e-308:
        x, exponent = x * 18014398509481984.0, -54
    bits = scalars.bits_of_double(x)
    shift = (bits - SQRT_HALF_BITS) >> 52
    exponent += shift
    m = scalars.double_of_bits(bits - (shift << 52))
    s = (m - 1.0) / (m + 1.0)
    square, total = s * s, 0.0
    for n in range(23, 1, -2):
        total = (total + 1.0 / n) * square
    return exponent * LN2_HIGH + (2.0 * s + (2.0 * s * total + exponent * LN2_LOW))


@inline
def _whole_power(x, n):
    """x to a whole number that is not negative."""
    result = 1.0
    while n > 0:
        if n & 1:
            result *= x
        x *= x
        n >>= 1
    return result


@inline
def power(x, y):
    """C's pow."""
    if y == 0.0 or x == 1.0:
        return 1.0
    if x != x or y != y:
        return nan
    if y == 0.5 and x > 0.0:
        return scalars.square_root(x)
    whole = round_even(y) == y
    if whole and abs(y) < 1024.0:
        return _whole_power(x, int(y)) if y > 0 else 1.0 / _whole_power(x, int(-y))
    negative = x < 0.0 or (x == 0.0 and scalars.bits_of_double(x) < 0)
    if negative and x > -inf and x != 0.0 and not whole:
        return nan
    odd = whole and round_even(y * 0.5) * 2.0 != y
    size = abs(x)
    if size == 1.0:
        result = 1.0
    elif y == inf or y == -inf:
        result = inf if (size > 1.0) == (y > 0.0) else 0.0
    elif size == 0.0 or size == inf:
        result = inf if (size == inf) == (y > 0.0) else 0.0
    else:
        result = exp(y * natural_log(size))
    return -result if negative and odd else result


@inline
def sigmoid(x):
    if x >= 0.0:
        return 1.0 / (1.0 + exp(-x))
    e = exp(x)
    return e / (1.0 + e)


@inline
def tanh(x):
    size = abs(x)
    if size < 0.125:
        # The continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))).
        square, total = x * x, 19.0
        for n in range(17, 0, -2):
            total = n + square / total
        return x / total
    e = exp(-2.0 * size)
    result = (1.0 - e) / (1.0 + e)
    return -result if x < 0.0 else result


@inline
def _normal(fraction, exponent):
    """The fraction with its highest bit in place, and the exponent that belongs to it."""
    if exponent != 0:
        return fraction | HIDDEN, exponent
    exponent = 1
    while fraction < HIDDEN:
        fraction <<= 1
        exponent -= 1
    return fraction, exponent


@inline
def remainder_truncating(x, y):
    """C's fmod, exact."""
    if x != x or y != y or y == 0.0 or x - x != 0.0:
        return nan
    if abs(x) < abs(y):
        return x
    bits, divisor = scalars.bits_of_double(x), scalars.bits_of_double(y)
    sign = bits & SIGN
    exponent, other = (bits >> 52) & EXPONENT, (divisor >> 52) & EXPONENT
    bits, exponent = _normal(bits & FRACTION, exponent)
    divisor, other = _normal(divisor & FRACTION, other)
    while exponent > other:
        if bits >= divisor:
            bits -= divisor
        bits <<= 1
        exponent -= 1
    if bits >= divisor:
        bits -= divisor
    if bits == 0:
        return scalars.double_of_bits(sign)
    while bits < HIDDEN:
        bits <<= 1
        exponent -= 1
    bits = (bits & FRACTION) | (exponent << 52) if exponent > 0 else bits >> (1 - exponent)
    return scalars.double_of_bits(bits | sign)


@inline
def remainder(x, y):
    """Python's %: with the sign of y."""
    rest = remainder_truncating(x, y)
    if rest == 0.0:
        return scalars.double_of_bits(scalars.bits_of_double(y) & SIGN)
    return rest + y if (rest < 0.0) != (y < 0.0) else rest
