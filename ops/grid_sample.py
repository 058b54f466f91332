"""Sampling of images at coordinates given by a grid: nearest, linear and cubic interpolation."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source grid target batch channels in_height in_width height width aligned")
VOLUMES = record("source grid target batch channels in_depth in_height in_width points aligned")
PADDINGS = ("zeros", "border", "reflection")
MODES = ("nearest", "linear", "cubic")
FAR = 1e8  # pixels further away, and NaN, count as this far to the left
ROUNDER = 6755399441055744.0  # adding 1.5 * 2^52 to a small float64 rounds it to a whole number, ties to even
CUBIC = -0.75


@inline
def _floor(x):
    whole = int(x)
    return whole - 1 if whole > x else whole


@inline
def _place(coordinate, extent, aligned):
    """The grid's -1..1 as pixels."""
    x = (coordinate + 1.0) * 0.5 * (extent - 1) if aligned != 0 else ((coordinate + 1.0) * extent - 1.0) * 0.5
    return x if -FAR <= x <= FAR else -FAR


@inline
def _reflected(x, extent, aligned):
    low, high = (0.0, extent - 1.0) if aligned != 0 else (-0.5, extent - 0.5)
    span = high - low
    if span <= 0.0:
        return 0.0
    distance = low - x if x < low else x - low
    turns = _floor(distance / span)
    rest = distance - turns * span
    return low + rest if turns % 2 == 0 else high - rest


def _padded(padding: str) -> Inline:
    """padded(x, extent, aligned): the coordinate read in place of one outside."""

    @inline
    def run(x, extent, aligned):
        if padding == "zeros":
            return x
        if padding == "reflection":
            x = _reflected(x, extent, aligned)
        return min(max(x, 0.0), extent - 1.0)

    return run


@inline
def _cubic_weight(distance):
    d = abs(distance)
    if d <= 1.0:
        return ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0
    return ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC


@cache
@factory
def grid_sample(mode: str, padding: str) -> Kernel:
    """target[n, c, y, x] = source[n, c] (float32 [N, C, H, W]) at grid[n, y, x], which is (x, y) from -1 to 1.

    `mode` and `padding` are of `MODES` and `PADDINGS`. With `aligned` -1 and 1 are the centres of the outermost pixels,
    else the borders of the image.
    """
    padded, taps = _padded(padding), {"nearest": 1, "linear": 2, "cubic": 4}[mode]

    @kernel(ARGUMENTS, name=f"grid_sample_{mode}_{padding}")
    def run(a, thread, threads):
        pixels = a.height * a.width
        items = a.batch * pixels
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            x = _place(once.load_f32(a.grid + 8 * item), a.in_width, a.aligned)
            y = _place(once.load_f32(a.grid + 8 * item + 4), a.in_height, a.aligned)
            if taps < 4:
                x, y = padded(x, a.in_width, a.aligned), padded(y, a.in_height, a.aligned)
            if taps == 1:
                x, y = (x + ROUNDER) - ROUNDER, (y + ROUNDER) - ROUNDER
            first = 1 if taps == 4 else 0
            left, top = _floor(x) - first, _floor(y) - first
            image = a.source + item // pixels * a.channels * a.in_height * a.in_width * 4
            target = a.target + (item // pixels * a.channels * pixels + item % pixels) * 4
            for c in range(a.channels):
                plane = image + c * a.in_height * a.in_width * 4
                total = 0.0
                for i in range(taps):
                    row = top + i
                    across = 1.0 if taps == 1 else 1.0 - abs(y - row) if taps == 2 else _cubic_weight(y - row)
                    if taps == 4:
                        row = int(padded(float(row), a.in_height, a.aligned))
                    if row < 0 or row >= a.in_height:
                        continue
                    for j in range(taps):
                        column = left + j
                        along = 1.0 if taps == 1 else 1.0 - abs(x - column) if taps == 2 else _cubic_weight(x - column)
                        if taps == 4:
                            column = int(padded(float(column), a.in_width, a.aligned))
                        if 0 <= column < a.in_width:
                            total += across * along * simd.load_f32(plane + (row * a.in_width + column) * 4)
                simd.store_f32(target + c * pixels * 4, total)

    return run


@cache
@factory
def grid_sample_volume(mode: str, padding: str) -> Kernel:
    """target[n, c, point] = source[n, c] (float32 volumes) at grid[n, point], which is (x, y, z) from -1 to 1.

    As `grid_sample`, without the mode "cubic".
    """
    padded, taps = _padded(padding), {"nearest": 1, "linear": 2}[mode]

    @kernel(VOLUMES, name=f"grid_sample_volume_{mode}_{padding}")
    def run(a, thread, threads):
        items = a.batch * a.points
        volume = a.in_depth * a.in_height * a.in_width
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            x = padded(_place(once.load_f32(a.grid + 12 * item), a.in_width, a.aligned), a.in_width, a.aligned)
            y = padded(_place(once.load_f32(a.grid + 12 * item + 4), a.in_height, a.aligned), a.in_height, a.aligned)
            z = padded(_place(once.load_f32(a.grid + 12 * item + 8), a.in_depth, a.aligned), a.in_depth, a.aligned)
            if taps == 1:
                x, y, z = (x + ROUNDER) - ROUNDER, (y + ROUNDER) - ROUNDER, (z + ROUNDER) - ROUNDER
            left, top, front = _floor(x), _floor(y), _floor(z)
            for c in range(a.channels):
                plane = item // a.points * a.channels + c
                total = 0.0
                for corner in range(taps * taps * taps):
                    w, h, d = left + corner % taps, top + corner // taps % taps, front + corner // (taps * taps)
                    if 0 <= w < a.in_width and 0 <= h < a.in_height and 0 <= d < a.in_depth:
                        weight = 1.0
                        if taps == 2:
                            weight = (1.0 - abs(x - w)) * (1.0 - abs(y - h)) * (1.0 - abs(z - d))
                        place = (d * a.in_height + h) * a.in_width + w
                        total += weight * simd.load_f32(a.source + (plane * volume + place) * 4)
                simd.store_f32(a.target + (plane * a.points + item % a.points) * 4, total)

    return run
