"""Windows of images as columns of matrices: sums of overlapping ones (Col2Im), and those of moved elements."""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.compiler.typed import load

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

# Of depth, height and width.
OVERLAP = record(
    "source target planes", extents="3i8", counts="3i8", window="3i8", strides="3i8", dilations="3i8", pads="3i8"
)
# Of height and width.
MOVED = record(
    "source offsets mask target batch groups channels", extents="2i8", counts="2i8", window="2i8", strides="2i8",
    dilations="2i8", pads="2i8",
)  # fmt: skip

_read = load("float32")


@inline
def _first(place, pad, step, stride, count):
    """The window whose element `step` lies at a place; -1 where there is none."""
    start = place + pad - step
    if start < 0 or start % stride != 0 or start // stride >= count:
        return -1
    return start // stride


@kernel(OVERLAP)
def overlapped(a, thread, threads):
    """target[n, z, y, x] = sum of the elements of source[n, k, window] (float32) that lie there.

    The k of an element counts those of the window, a window's number those of `counts`, both row by row.
    """
    windows = a.counts[0] * a.counts[1] * a.counts[2]
    size = a.window[0] * a.window[1] * a.window[2]
    rows = a.extents[0] * a.extents[1]
    items = a.planes * rows
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        plane = item // rows
        for x in range(a.extents[2]):
            total = 0.0
            for k in range(size):
                inner = a.window[1] * a.window[2]
                place = item % rows // a.extents[1]
                d = _first(place, a.pads[0], k // inner * a.dilations[0], a.strides[0], a.counts[0])
                place = item % a.extents[1]
                h = _first(place, a.pads[1], k % inner // a.window[2] * a.dilations[1], a.strides[1], a.counts[1])
                w = _first(x, a.pads[2], k % a.window[2] * a.dilations[2], a.strides[2], a.counts[2])
                if d >= 0 and h >= 0 and w >= 0:
                    number = (d * a.counts[1] + h) * a.counts[2] + w
                    total += _read(a.source, (plane * size + k) * windows + number)
            simd.store_f32(a.target + 4 * (item * a.extents[2] + x), total)


@inline
def _floor(x):
    whole = int(x)
    return whole - 1 if whole > x else whole


@kernel(MOVED)
def moved_columns(a, thread, threads):
    """target[n, c, k, window] = source[n, c] (float32 images) at the place of element k of a window, moved by
    offsets[n, group, k, (down, across), window], times mask[n, group, k, window] where `mask` is not 0.

    Each of `groups` has `channels`. Between pixels elements are interpolated; outside lie zeros.
    """
    height, width = a.extents[0], a.extents[1]
    size, windows = a.window[0] * a.window[1], a.counts[0] * a.counts[1]
    items = a.batch * a.groups * size * a.counts[0]
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        group, k, row = item // (size * a.counts[0]), item // a.counts[0] % size, item % a.counts[0]
        down = row * a.strides[0] - a.pads[0] + k // a.window[1] * a.dilations[0]
        for column in range(a.counts[1]):
            number = row * a.counts[1] + column
            place = a.offsets + 4 * ((group * size + k) * 2 * windows + number)
            y = down + once.load_f32(place)
            x = column * a.strides[1] - a.pads[1] + k % a.window[1] * a.dilations[1]
            x = x + once.load_f32(place + 4 * windows)
            factor = 1.0
            if a.mask != 0:
                factor = _read(a.mask, (group * size + k) * windows + number)
            inside = -1.0 < y < height and -1.0 < x < width
            top, left = (_floor(y), _floor(x)) if inside else (0, 0)
            for channel in range(a.channels):
                plane = (group * a.channels + channel) * height * width
                total = 0.0
                if inside:
                    for i in range(2):
                        for j in range(2):
                            h, w = top + i, left + j
                            if 0 <= h < height and 0 <= w < width:
                                weight = (1.0 - abs(y - h)) * (1.0 - abs(x - w))
                                total += weight * _read(a.source, plane + h * width + w)
                target = ((group * a.channels + channel) * size + k) * windows + number
                simd.store_f32(a.target + 4 * target, total * factor)
