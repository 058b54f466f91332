"""MaxRoiPool: the largest elements of the bins of regions of images."""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.compiler.typed import load

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record(
    "source regions target fault batch channels in_height in_width count height width", scale="f4"
)  # fmt: skip
FAR = 1e8  # pixels further away count as this far

_read = load("float32")


@inline
def _pixel(place):
    """The nearest pixel, of two as near the one further from zero; NaN is pixel 0."""
    if not -FAR < place < FAR:
        return int(FAR) if place >= FAR else -int(FAR) if place <= -FAR else 0
    return int(place + 0.5) if place >= 0 else -int(0.5 - place)


@inline
def _bounds(index, size, first, extent):
    """The pixels of a bin: its first and the one behind its last, on the image."""
    start = index * size
    end = (index + 1) * size
    last = int(end)
    last = last + 1 if end > last else last
    return min(max(int(start) + first, 0), extent), min(max(last + first, 0), extent)


@kernel(ARGUMENTS)
def max_roi_pool(a, thread, threads):
    """target[r, c, y, x] = the largest element of source[image, c] in a bin of region r, 0 where it has none.

    `regions` [count, 5] are (image, left, top, right, bottom), all float32; corners are times `scale`, and rounded. An
    image out of range counts as the first and sets the int64 at `fault` to 1.
    """
    items = a.count * a.channels
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        region, channel = item // a.channels, item % a.channels
        place = a.regions + 20 * region
        number, image = once.load_f32(place), 0
        if -1.0 < number < a.batch:
            image = int(number)
        else:
            simd.store_i64(a.fault, 1)
        left, top = _pixel(once.load_f32(place + 4) * a.scale), _pixel(once.load_f32(place + 8) * a.scale)
        right, bottom = _pixel(once.load_f32(place + 12) * a.scale), _pixel(once.load_f32(place + 16) * a.scale)
        rows = np.float64(max(bottom - top + 1, 1)) / a.height
        columns = np.float64(max(right - left + 1, 1)) / a.width
        plane = (image * a.channels + channel) * a.in_height * a.in_width
        for y in range(a.height):
            first_row, last_row = _bounds(y, rows, top, a.in_height)
            for x in range(a.width):
                first_column, last_column = _bounds(x, columns, left, a.in_width)
                best = np.float32(0.0)
                for h in range(first_row, last_row):
                    for w in range(first_column, last_column):
                        value = _read(a.source, plane + h * a.in_width + w)
                        if (h == first_row and w == first_column) or value > best:
                            best = value
                simd.store_f32(a.target + 4 * ((item * a.height + y) * a.width + x), best)
