"""Pooling of regions of images by bilinear samples: RoiAlign."""

from __future__ import annotations

from functools import cache

import numpy as np

from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record(
    "source regions images target fault batch channels in_height in_width count height width samples",
    scale="f4", offset="f4", smallest="f4",
)  # fmt: skip
MODES = ("avg", "max")
MOST_SAMPLES = 1 << 10
"""Samples along one axis of a bin that a caller may ask for."""
CHANNELS = 16  # channels that share the coordinates of samples
FAR = 1e9  # larger regions have no more samples; those beyond the image take no time


@inline
def _sample_count(extent, wanted):
    """Samples along one axis of a bin: as wanted, or one for each pixel begun."""
    if wanted > 0:
        return wanted
    if not extent > 0.0:
        return 0
    whole = int(min(extent, FAR))
    return whole + 1 if extent > whole else whole


@inline
def _limited(position, count):
    """A position among `count` samples as an index; NaN is the first."""
    if not position > 0.0:
        return 0
    return count if position >= count else int(position)


@inline
def _inside(base, extent, count, size):
    """The first sample of a bin and the one behind the last that may lie on an image of `size` pixels."""
    step = np.float64(extent) / count if count > 0 else 0.0
    if not step > 0.0:
        return 0, count
    first, last = (-1.0 - base) / step, (size - base) / step
    return _limited(first - 2.0, count), _limited(last + 2.0, count)


@inline
def _pixels(x, size):
    """The pixels before and behind a coordinate, the weight of the second; the border counts for all beyond it."""
    x = max(x, np.float32(0.0))
    low = int(x)
    if low >= size - 1:
        return size - 1, size - 1, np.float32(0.0)
    return low, low + 1, x - np.float32(low)


@cache
@factory
def roi_align(mode: str) -> Kernel:
    """target[r, c, y, x] = mean or maximum of samples of source[images[r], c] in a bin of regions[r].

    float32 `source` [batch, channels, in_height, in_width], `regions` [count, 4] as (left, top, right, bottom) and
    `target` [count, channels, height, width]; int64 `images`. Coordinates are multiplied by `scale`, then reduced by
    `offset`; regions are at least `smallest` long. A bin has `samples` times `samples` samples, with 0 one for each
    pixel begun. Samples more than a pixel beyond the image count as 0. In mode "max" a sample is the largest of its
    four weighted pixels, as ONNX defines it. An image out of range counts as the first and sets the int64 at `fault` to
    1.
    """
    takes_largest = mode == "max"

    @kernel(ARGUMENTS, name=f"roi_align_{mode}")
    def run(a, thread, threads):
        groups = (a.channels + CHANNELS - 1) // CHANNELS
        items = a.count * groups
        plane, bins = a.in_height * a.in_width * 4, a.height * a.width * 4
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            region, channel = item // groups, item % groups * CHANNELS
            channels = min(CHANNELS, a.channels - channel)
            image = once.load_i64(a.images + 8 * region)
            if image < 0 or image >= a.batch:
                simd.store_i64(a.fault, 1)
                image = 0
            source = a.source + (image * a.channels + channel) * plane
            target = a.target + (region * a.channels + channel) * bins
            place = a.regions + 16 * region
            left = once.load_f32(place) * a.scale - a.offset
            top = once.load_f32(place + 4) * a.scale - a.offset
            across = max(once.load_f32(place + 8) * a.scale - a.offset - left, a.smallest) / np.float32(a.width)
            down = max(once.load_f32(place + 12) * a.scale - a.offset - top, a.smallest) / np.float32(a.height)
            columns, rows = _sample_count(across, a.samples), _sample_count(down, a.samples)
            for row in range(a.height):
                above = top + np.float32(row) * down
                first_row, last_row = _inside(above, down, rows, a.in_height)
                for column in range(a.width):
                    before = left + np.float32(column) * across
                    first_column, last_column = _inside(before, across, columns, a.in_width)
                    found = 0
                    for i in range(first_row, last_row):
                        y = above + (np.float32(i) + np.float32(0.5)) * down / np.float32(rows)
                        if not -1.0 <= y <= a.in_height:
                            continue
                        y0, y1, lower = _pixels(y, a.in_height)
                        for j in range(first_column, last_column):
                            x = before + (np.float32(j) + np.float32(0.5)) * across / np.float32(columns)
                            if not -1.0 <= x <= a.in_width:
                                continue
                            x0, x1, right = _pixels(x, a.in_width)
                            upper, under = source + y0 * a.in_width * 4, source + y1 * a.in_width * 4
                            for c in range(channels):
                                p = (1 - lower) * (1 - right) * simd.load_f32(upper + 4 * x0 + c * plane)
                                q = (1 - lower) * right * simd.load_f32(upper + 4 * x1 + c * plane)
                                r = lower * (1 - right) * simd.load_f32(under + 4 * x0 + c * plane)
                                s = lower * right * simd.load_f32(under + 4 * x1 + c * plane)
                                value = max(max(p, q), max(r, s)) if takes_largest else p + q + r + s
                                if found > 0:
                                    known = simd.load_f32(target + c * bins)
                                    value = max(known, value) if takes_largest else known + value
                                simd.store_f32(target + c * bins, value)
                            found += 1
                    for c in range(channels):
                        value = simd.load_f32(target + c * bins) if found > 0 else 0.0
                        if takes_largest and found < rows * columns:
                            value = max(value, 0.0)
                        simd.store_f32(target + c * bins, value if takes_largest else value / max(rows * columns, 1))
                    target += 4

    return run
