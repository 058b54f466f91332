"""Images of bytes as images of floats: resized, their channels moved, less a mean and divided by a scale, in one pass.

Which source pixels a target pixel is made of stands in tables as those of `cpuruntime.ops.resize`.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import inline, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")
byte_lanes = lazy("cpuruntime.compiler.byte_lanes")

IMAGE = record(
    "source source_batch source_plane planes pixel line_size line_first line_step "
    "target target_batch target_channel target_row target_pixel batch channels height width "
    "row_taps rows row_weights column_taps columns column_weights means scales rounds scratch scratch_size"
)


@kernel(IMAGE)
def read_image(a, thread, threads):
    """`batch` images of `planes` planes, each of rows of `line_size` bytes with `channels` interleaved channels.

    `rows` [height][row_taps] holds int64 offsets in bytes from a plane's start, `columns` [width][column_taps] those of
    the first channel's floats in a row of floats; channel c lies `line_first + c * line_step` bytes behind. Weights are
    float32; with one tap they are 1. Sums are rounded to bytes where `rounds` is not 0. `means` and `scales` have a
    float for each channel of each plane. `scratch` has `scratch_size` bytes for each thread: floats of a source row and
    of a target row, `width` of them at its end. A pixel has `pixel` bytes.
    """
    items = a.batch * a.planes * a.height
    line = a.scratch + thread * a.scratch_size
    row = line + 4 * a.line_size
    few = 1 < a.pixel <= LANES and a.width * LANES < a.line_size and a.row_taps == a.column_taps <= 2
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, plane, image = item % a.height, item // a.height % a.planes, item // a.height // a.planes
        source = a.source + image * a.source_batch + plane * a.source_plane
        if few:
            _sum_pixels(a, source, y, line)
        else:
            _sum_rows(a, source, y, line)
        for c in range(a.channels):
            channel = plane * a.channels + c
            first = line + a.line_first + c * a.line_step
            if few:
                for x in range(a.width):
                    simd.store_f32(row + 4 * x, simd.load_f32(first + 4 * a.pixel * x))
            else:
                _sum_columns(a, first, row)
            target = a.target + image * a.target_batch + channel * a.target_channel + y * a.target_row
            _finish(a, channel, row, target)


@inline
def _sum_pixels(a, source, y, line):
    """The floats of target row `y`, of all channels: where few pixels of the source are read.

    A vector is read for each pixel, and what lies behind it is overwritten by the next; near the end of a row, where a
    vector could reach beyond the image, single bytes are read.
    """
    rows, weights = a.rows + y * a.row_taps * 8, a.row_weights + y * a.row_taps * 4
    first = source + simd.load_i64(rows)
    if a.row_taps == 1:
        for x in range(a.width):
            at, target = simd.load_i64(a.columns + 8 * x) // 4, line + 4 * a.pixel * x
            if at + LANES <= a.line_size:
                simd.store(target, byte_lanes.load_bytes(first + at))
            else:
                for c in range(a.pixel):
                    simd.store_f32(target + 4 * c, simd.load_u8(first + at + c))
        return
    second = source + simd.load_i64(rows + 8)
    p, q = simd.broadcast(simd.load_f32(weights)), simd.broadcast(simd.load_f32(weights + 4))
    for x in range(a.width):
        columns, shares, target = a.columns + 16 * x, a.column_weights + 8 * x, line + 4 * a.pixel * x
        left, right = simd.load_i64(columns) // 4, simd.load_i64(columns + 8) // 4
        r, s = simd.broadcast(simd.load_f32(shares)), simd.broadcast(simd.load_f32(shares + 4))
        if max(left, right) + LANES <= a.line_size:
            value = simd.fma(byte_lanes.load_bytes(second + left), q, byte_lanes.load_bytes(first + left) * p) * r
            other = simd.fma(byte_lanes.load_bytes(second + right), q, byte_lanes.load_bytes(first + right) * p)
            simd.store(target, simd.fma(other, s, value))
        else:
            for c in range(a.pixel):
                value = _bytes(first + left + c) * p + _bytes(second + left + c) * q
                other = _bytes(first + right + c) * p + _bytes(second + right + c) * q
                simd.store_first(target + 4 * c, value * r + other * s, 1)


@inline
def _bytes(address):
    """One byte, in all lanes."""
    return simd.broadcast(simd.load_u8(address))


@inline
def _sum_rows(a, source, y, line):
    """The floats of target row `y` before its columns are summed."""
    taps, size = a.row_taps, a.line_size
    rows, weights = a.rows + y * taps * 8, a.row_weights + y * taps * 4
    whole = size // LANES * LANES
    if taps == 1:
        source += simd.load_i64(rows)
        for x in range(0, whole, LANES):
            simd.store(line + 4 * x, byte_lanes.load_bytes(source + x))
        for x in range(whole, size):
            simd.store_f32(line + 4 * x, simd.load_u8(source + x))
        return
    if taps == 2:
        first, second = source + simd.load_i64(rows), source + simd.load_i64(rows + 8)
        p, q = simd.broadcast(simd.load_f32(weights)), simd.broadcast(simd.load_f32(weights + 4))
        for x in range(0, whole, LANES):
            total = byte_lanes.load_bytes(first + x) * p
            simd.store(line + 4 * x, simd.fma(byte_lanes.load_bytes(second + x), q, total))
    else:
        for x in range(0, whole, LANES):
            total = simd.broadcast(0.0)
            for i in range(taps):
                value = byte_lanes.load_bytes(source + simd.load_i64(rows + 8 * i) + x)
                total = simd.fma(value, simd.broadcast(simd.load_f32(weights + 4 * i)), total)
            simd.store(line + 4 * x, total)
    for x in range(whole, size):
        total = simd.load_f32(weights) * simd.load_u8(source + simd.load_i64(rows) + x)
        for i in range(1, taps):
            total += simd.load_f32(weights + 4 * i) * simd.load_u8(source + simd.load_i64(rows + 8 * i) + x)
        simd.store_f32(line + 4 * x, total)


@inline
def _sum_columns(a, line, row):
    """The floats of one channel of a target row, at `row`."""
    taps, columns, weights = a.column_taps, a.columns, a.column_weights
    if taps == 1:
        for x in range(a.width):
            simd.store_f32(row + 4 * x, simd.load_f32(line + simd.load_i64(columns + 8 * x)))
        return
    if taps == 2:
        for x in range(a.width):
            first, second = line + simd.load_i64(columns), line + simd.load_i64(columns + 8)
            total = simd.load_f32(first) * simd.load_f32(weights) + simd.load_f32(second) * simd.load_f32(weights + 4)
            simd.store_f32(row + 4 * x, total)
            columns += 16
            weights += 8
        return
    for x in range(a.width):
        total = simd.load_f32(line + simd.load_i64(columns)) * simd.load_f32(weights)
        other = simd.load_f32(line + simd.load_i64(columns + 8)) * simd.load_f32(weights + 4)
        for tap in range(2, taps, 2):
            value = simd.load_f32(line + simd.load_i64(columns + 8 * tap))
            total += value * simd.load_f32(weights + 4 * tap)
            value = simd.load_f32(line + simd.load_i64(columns + 8 * tap + 8))
            other += value * simd.load_f32(weights + 4 * tap + 4)
        simd.store_f32(row + 4 * x, total + other)
        columns += 8 * taps
        weights += 4 * taps


@inline
def _finish(a, channel, row, target):
    """Rounds, subtracts, divides, and writes the floats at `row`."""
    mean = simd.broadcast(simd.load_f32(a.means + 4 * channel))
    scale = simd.broadcast(simd.load_f32(a.scales + 4 * channel))
    result = target if a.target_pixel == 4 else row
    whole = a.width // LANES * LANES
    for x in range(0, whole, LANES):
        simd.store(result + 4 * x, _finished(a, simd.load(row + 4 * x), mean, scale))
    if whole < a.width:
        lanes = a.width - whole
        value = _finished(a, simd.load_first(row + 4 * whole, lanes), mean, scale)
        simd.store_first(result + 4 * whole, value, lanes)
    if a.target_pixel != 4:
        for x in range(a.width):
            simd.store_f32(target + a.target_pixel * x, simd.load_f32(row + 4 * x))


@inline
def _finished(a, value, mean, scale):
    if a.rounds != 0:
        value = simd.minimum(simd.maximum(simd.rint(value), simd.broadcast(0.0)), simd.broadcast(255.0))
    return (value - mean) / scale
