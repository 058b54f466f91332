"""Which source pixels each target pixel of a Resize is made of, and with which weights, along one axis.

All but indices is computed in float32, step by step as in `program/lowerings/resize_tables.py`.
"""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.compiler.typed import as_element

simd = lazy("cpuruntime.compiler.simd")
f32 = as_element("float32")

POSITION_NAMES = (
    "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
)  # fmt: skip
ROUNDING_NAMES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
FAR = 2.0**40
"""Positions further away, and NaN, count as this far to the left."""

# indices int64 and weights float32 are [target][taps]; a source pixel is `step` in the indices. A scale of 0 stands for
# target / source. `weights` may be 0, for none.
TAPS = record(
    "indices weights source target step taps position rounding exclude_outside", scale="f8", coefficient="f4"
)  # fmt: skip


@inline
def _floor(x):
    whole = int(x)
    return whole - 1 if whole > x else whole


@inline
def _position(a, x, scale):
    """Where in the source target pixel x lies, a float32."""
    half, at, source, target = f32(0.5), f32(x), f32(a.source), f32(a.target)
    if a.position == 3:
        return at * f32(a.source - 1) / f32(a.target - 1) if a.target > 1 else f32(0.0)
    if a.position == 4:
        return at / scale
    if a.position == 5:
        return (at + half) / scale
    if a.position == 1 and a.target <= 1:
        return f32(0.0)
    if a.position == 2:
        adjustment = target / (scale * source)
        return source * half * (f32(1.0) - adjustment) + (at + half) / scale - half
    return (at + half) / scale - half


@inline
def _nearest(a, at):
    half = f32(0.5)
    if a.rounding == 0:
        return -_floor(-(at - half))
    if a.rounding == 1:
        return _floor(at + half)
    return _floor(at) if a.rounding == 2 else -_floor(-at)


@inline
def _cubic(a, distance):
    c = a.coefficient
    if distance <= f32(1.0):
        return (f32(c + 2.0) * distance - f32(c + 3.0)) * distance * distance + f32(1.0)
    if distance < f32(2.0):
        return ((c * distance - f32(5.0 * c)) * distance + f32(8.0 * c)) * distance - f32(4.0 * c)
    return f32(0.0)


@kernel(TAPS)
def resize_taps(a, thread, threads):
    """One tap for the nearest pixel, two for linear and four for cubic weights; `position` and `rounding` are numbers
    in POSITION_NAMES and ROUNDING_NAMES."""
    exact = a.scale if a.scale != 0.0 else a.target / a.source
    scale = f32(exact)
    for x in range(a.target * thread // threads, a.target * (thread + 1) // threads):
        at = f32(x) if exact == 1.0 else _position(a, x, scale)
        at = at if -FAR <= at <= FAR else f32(-FAR)
        indices, weights = a.indices + 8 * x * a.taps, a.weights + 4 * x * a.taps
        if a.taps == 1:
            simd.store_i64(indices, min(max(_nearest(a, at), 0), a.source - 1) * a.step)
        elif a.taps == 2:
            at = min(max(at, f32(0.0)), f32(a.source - 1))
            low = min(int(at), a.source - 1)
            simd.store_i64(indices, low * a.step)
            simd.store_i64(indices + 8, min(low + 1, a.source - 1) * a.step)
            simd.store_f32(weights, f32(1.0) - (at - f32(low)))
            simd.store_f32(weights + 4, at - f32(low))
        else:
            low = _floor(at)
            total = f32(0.0)
            for tap in range(4):
                wanted = low + tap - 1
                weight = _cubic(a, abs(at - f32(low) - f32(tap - 1)))
                if a.exclude_outside != 0 and (wanted < 0 or wanted >= a.source):
                    weight = f32(0.0)
                total += weight
                simd.store_i64(indices + 8 * tap, min(max(wanted, 0), a.source - 1) * a.step)
                simd.store_f32(weights + 4 * tap, weight)
            if a.exclude_outside != 0:
                for tap in range(4):
                    simd.store_f32(weights + 4 * tap, simd.load_f32(weights + 4 * tap) / total)
