"""Elementary functions on float32 vectors.

Errors are stated in units in the last place of the result (ulp) over all float32 arguments, denormals included, with
fused multiply-add and without. Overflow gives infinity, underflow a denormal or zero, NaN stays NaN. The polynomials
were fitted with Remez's algorithm for the relative error of the function on the stated interval; their coefficients
were rounded to float32 one after another, the rest fitted again each time. Ranges are reduced after Cody and Waite.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import current
from cpuruntime.compiler.kernel import Inline, inline, lazy

simd = lazy("cpuruntime.compiler.simd")

LN2, LOG2E = 0.693147180559945309, 1.44269504088896341
# ln 2 in two parts; the first has 9 bits, so its product with an exponent is exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
# Adding 1.5 * 2^23 to a float32 of less than 2^22 rounds it to an integer, which the lowest bits then hold.
ROUNDER, ROUNDER_BITS = 12582912.0, 0x4B400000
SQRT_HALF_BITS = 0x3F3504F3
MANTISSA_BITS = 0x007FFFFF
SIGN_BIT = -0x80000000
HIGH_HALF = -4096  # the sign, the exponent and the upper 12 bits of the mantissa
TWO_LOG2E_HIGH, TWO_LOG2E_LOW = 2.885390043258667, 3.851926067000022e-08
SMALLEST_NORMAL = 2.0**-126
LOG_SMALLEST_NORMAL = -87.33654  # its float32 is the last one with a normal exponential
FRACTION_LIMIT = 8388608.0  # 2^23: from here on every float32 is an integer
HAS_FMA = "fma" in current().needs
HAS_ROUNDING = current().name != "generic"


@inline
def power_of_two(n):
    """2^n for int32 lanes of -126..127, infinity for 128."""
    return simd.as_floats((n + 127) << 23)


@inline
def copy_sign(magnitude, sign):
    """`magnitude`, not negative, with the sign of `sign`."""
    return simd.as_floats(simd.as_words(magnitude) | (simd.as_words(sign) & SIGN_BIT))


@inline
def _exp_remainder(r):
    """exp(r) - 1 on |r| <= ln(2) / 2, to 2^-28."""
    square = r * r
    low = r * 1.6666513681411743e-1 + 4.999999403953552e-1
    high = square * 1.3843871420249343e-3 + (r * 8.369549177587032e-3 + 4.1668061167001724e-2)
    return (high * square + low) * square + r


@inline
def _exp_parts(x):
    """(n, exp(r) - 1) with x = n ln(2) + r, n in int32 lanes and |r| <= ln(2) / 2."""
    shifted = x * LOG2E + ROUNDER
    n = shifted - ROUNDER
    return simd.as_words(shifted) - ROUNDER_BITS, _exp_remainder((x - n * LN2_HIGH) - n * LN2_LOW)


@inline
def _scaled(x, exponent):
    """x * 2^exponent by two factors, since 2^exponent itself may be too large or too small for a float32."""
    half = exponent >> 1
    return x * power_of_two(half) * power_of_two(exponent - half)


@inline
def exp(x):
    """e^x, to 1.1 ulp."""
    exponent, p = _exp_parts(simd.minimum(simd.broadcast(89.0), simd.maximum(simd.broadcast(-104.0), x)))
    return _scaled(p + 1.0, exponent)


@inline
def exp_or_zero(x):
    """e^x for x up to 88, to 1.1 ulp; 0 instead of denormals, which processors are slow to produce."""
    exponent, p = _exp_parts(simd.maximum(simd.broadcast(LOG_SMALLEST_NORMAL), x))
    return simd.select(x < LOG_SMALLEST_NORMAL, simd.broadcast(0.0), (p + 1.0) * power_of_two(exponent))


@inline
def expm1(x):
    """e^x - 1, to 2 ulp."""
    exponent, p = _exp_parts(simd.minimum(simd.broadcast(89.0), simd.maximum(simd.broadcast(-80.0), x)))
    half = power_of_two(exponent - 1)
    result = (p * half + (half - 0.5)) * 2.0
    return simd.select(exponent == 0, p, result)


@inline
def log(x):
    """Natural logarithm, to 1 ulp; -inf at zero, NaN below."""
    denormal = x < SMALLEST_NORMAL
    bits = simd.as_words(simd.select(denormal, x * FRACTION_LIMIT, x)) - SQRT_HALF_BITS
    exponent = simd.to_floats(bits >> 23) - simd.select(denormal, simd.broadcast(23.0), simd.broadcast(0.0))
    f = simd.as_floats((bits & MANTISSA_BITS) + SQRT_HALF_BITS) - 1.0
    # (log(1 + f) - f + f^2 / 2) / f^3 on [sqrt(1/2) - 1, sqrt(2) - 1], to 2^-28.
    p = f * 5.3232789039611816e-2 - 1.0918711870908737e-1
    p = p * f + 1.2110523879528046e-1
    p = p * f - 1.254909187555313e-1
    p = p * f + 1.4209638535976410e-1
    p = p * f - 1.6659373044967651e-1
    p = p * f + 2.0002222061157227e-1
    p = p * f - 2.5000166893005371e-1
    p = p * f + 3.3333313465118408e-1
    square = f * f
    low = p * (f * square) + exponent * LN2_LOW
    result = (low - square * 0.5 + f) + exponent * LN2_HIGH
    infinity = simd.broadcast(float("inf"))
    result = simd.select(x < infinity, result, x)
    result = simd.select(x == 0.0, simd.broadcast(float("-inf")), result)
    return simd.select(x < 0.0, simd.broadcast(float("nan")), result)


@inline
def log1p_of_unit(x):
    """log(1 + x) for x in [0, 1], to 2 ulp."""
    y = x + 1.0
    return log(y) + (x - (y - 1.0)) / y


@inline
def one_plus_exp_of_minus(x):
    """1 + e^-x, to 2 ulp; infinity for x below -88.4."""
    x = simd.minimum(simd.broadcast(87.0), simd.maximum(simd.broadcast(-89.0), x))
    shifted = x * -LOG2E + ROUNDER
    n = shifted - ROUNDER
    p = _exp_remainder((n * -LN2_HIGH - x) - n * LN2_LOW)
    return (p + 1.0) * power_of_two(simd.as_words(shifted) - ROUNDER_BITS) + 1.0


@inline
def sigmoid(x):
    """1 / (1 + e^-x), to 3 ulp; 0 instead of denormals."""
    return simd.select(x < LOG_SMALLEST_NORMAL, simd.broadcast(0.0), 1.0 / one_plus_exp_of_minus(x))


@inline
def tanh(x):
    """Hyperbolic tangent, to 2 ulp."""
    half = expm1(simd.minimum(simd.broadcast(20.0), simd.absolute(x) * 2.0)) * 0.5
    result = half / (half + 1.0)
    # The same for small arguments, without the rounding of the sum.
    result = simd.select(half < 0.5, half - half * result, result)
    return copy_sign(result, x)


@inline
def erf(x):
    """Error function, to 2 ulp."""
    t = simd.absolute(x)
    s = x * x
    # erf(x) / x - 1 in x^2 on |x| <= 1, to 2^-29.
    p = s * 7.806903886375949e-5 - 7.997853099368513e-4
    p = p * s + 5.187162198126316e-3
    p = p * s - 2.6853347197175026e-2
    p = p * s + 1.1283578723669052e-1
    p = p * s - 3.7612625956535339e-1
    p = p * s + 1.2837916612625122e-1
    near = p * x + x
    # -log(1 - erf(t)) on 1 <= t <= 4, to 2^-29 of erf.
    t = simd.minimum(simd.broadcast(4.0), t)
    q = t * -1.8637554603628814e-4 + 2.9476364143192768e-3
    q = q * t - 2.1837985143065453e-2
    q = q * t + 1.0310660302639008e-1
    q = q * t + 6.3814496994018555e-1
    q = q * t + 1.1270891427993774
    q = q * t + 3.415241080801934e-4
    far = copy_sign(1.0 - exp_or_zero(0.0 - q), x)
    return simd.select(t < 1.0, near, far)


@inline
def normal_tail(t):
    """The part of the standard normal distribution above t >= 0, to 2^-23 in absolute terms; 0 from 5.75 on."""
    limited = simd.minimum(simd.broadcast(5.75), t)
    # Its logarithm, to 2^-26 of the tail.
    q = limited * -1.921438524732366e-06 + 2.6769865144160576e-05
    q = q * limited - 1.2653236626647413e-04
    q = q * limited - 1.0110944276675582e-04
    q = q * limited + 4.904343280941248e-03
    q = q * limited - 3.639371320605278e-02
    q = q * limited - 3.182965815067291e-01
    q = q * limited - 7.978857159614563e-01
    q = q * limited - 6.931471824645996e-01
    exponent, p = _exp_parts(q)
    return simd.select(t < 5.75, (p + 1.0) * power_of_two(exponent), simd.broadcast(0.0))


@inline
def _round_even_portable(x):
    magnitude = simd.absolute(x)
    rounded = copy_sign((magnitude + FRACTION_LIMIT) - FRACTION_LIMIT, x)
    return simd.select(magnitude < FRACTION_LIMIT, rounded, x)


@inline
def _floor_portable(x):
    rounded = _round_even_portable(x)
    return simd.select(rounded > x, rounded - 1.0, rounded)


@inline
def _ceil_portable(x):
    rounded = _round_even_portable(x)
    return simd.select(rounded < x, rounded + 1.0, rounded)


# Nearest integer, ties to even; largest integer not above; smallest not below. SSE2 has no instruction for them.
round_even: Inline = inline(lambda x: simd.rint(x)) if HAS_ROUNDING else _round_even_portable
round_down: Inline = inline(lambda x: simd.floor(x)) if HAS_ROUNDING else _floor_portable
round_up: Inline = inline(lambda x: simd.ceil(x)) if HAS_ROUNDING else _ceil_portable


@inline
def _product_fused(a, b):
    high = simd.fma(a, b, simd.broadcast(0.0))
    return high, simd.fma(a, b, 0.0 - high)


@inline
def _product_split(a, b):
    high = simd.fma(a, b, simd.broadcast(0.0))
    a_high = simd.as_floats(simd.as_words(a) & HIGH_HALF)
    b_high = simd.as_floats(simd.as_words(b) & HIGH_HALF)
    a_low, b_low = a - a_high, b - b_high
    return high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low


# a * b as the rounded product and what the rounding left out. The product is made by `fma`, because LLVM may fuse `*`
# with a later sum, and then the two parts do not belong together.
_product: Inline = _product_fused if HAS_FMA else _product_split


@inline
def _log2_pair(x):
    """log2(x) of a positive finite x as a float32 and what its rounding left out, together to 2^-31."""
    denormal = x < SMALLEST_NORMAL
    bits = simd.as_words(simd.select(denormal, x * FRACTION_LIMIT, x)) - SQRT_HALF_BITS
    exponent = simd.to_floats(bits >> 23) - simd.select(denormal, simd.broadcast(23.0), simd.broadcast(0.0))
    f = simd.as_floats((bits & MANTISSA_BITS) + SQRT_HALF_BITS) - 1.0
    # s = f / (2 + f); log2(1 + f) = 2 / ln(2) * atanh(s), on |s| <= 0.1716.
    divisor = f + 2.0
    s = f / divisor
    back, back_low = _product(s, divisor)
    s_low = ((f - back) - back_low - s * (f - (divisor - 2.0))) / divisor
    square = s * s
    series = square * 3.366246819496155e-1 + 4.119214713573456e-1
    series = series * square + 5.770788788795471e-1
    series = (series * square + 9.617967009544373e-1) * square
    main, main_low = _product(s, simd.broadcast(TWO_LOG2E_HIGH))
    high = exponent + main
    low = s_low * (series * 3.0 + TWO_LOG2E_HIGH) + s * (series + TWO_LOG2E_LOW)
    low = (main - (high - exponent)) + (main_low + low)
    total = high + low
    return total, low - (total - high)


@inline
def _magnitude_to_power(x, y):
    """x^y for positive x, zero and infinity; 1 where x is 1."""
    infinity, zero = simd.broadcast(float("inf")), simd.broadcast(0.0)
    high, low = _log2_pair(x)
    finite = (x > 0.0) & (x < infinity)
    high = simd.select(finite, high, simd.select(x == 0.0, zero - infinity, infinity))
    main, main_low = _product(y, high)
    limited = simd.minimum(simd.broadcast(160.0), simd.maximum(simd.broadcast(-160.0), main))
    low = simd.select(finite & (limited == main), main_low + y * low, zero)
    n = (limited + ROUNDER) - ROUNDER
    result = _exp_remainder(((limited - n) + low) * LN2) + 1.0
    result = _scaled(result, simd.as_words(n + ROUNDER) - ROUNDER_BITS)
    return simd.select(x == 1.0, simd.broadcast(1.0), result)


@inline
def power(x, y):
    """x^y, to 2 ulp; special values as C's pow: x^0 = 1^y = 1, a negative x needs an integer y."""
    one, infinity = simd.broadcast(1.0), simd.broadcast(float("inf"))
    result = _magnitude_to_power(simd.absolute(x), y)
    halved = y * 0.5
    whole, even = round_down(y) == y, round_down(halved) == halved
    result = simd.select(even, result, simd.select(whole, copy_sign(result, x), result))
    fractional = simd.select(whole, one, simd.broadcast(float("nan")))
    below = (x < 0.0) & (simd.absolute(x) < infinity)
    result = simd.select(below, result * fractional, result)
    result = simd.select(x == x, result, x)
    result = simd.select((x == 1.0) | (y == 0.0), one, result)
    return simd.select(y == y, result, simd.select(x == 1.0, one, y))
