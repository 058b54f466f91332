"""Conversions between the plain layout [N][C][H][W] and the kernels' own, and rearrangement of blocked channels.

Plain tensors are given by the byte strides of images, channels and rows; their pixels are successive floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.ops.movement import transpose_tile
from cpuruntime.ops.tiles.share import row_at

shuffle = lazy("cpuruntime.compiler.shuffle")
simd = lazy("cpuruntime.compiler.simd")

CHUNK = 16 * LANES  # pixels of a row that a thread takes at once
PIXELS = 7  # of a row that are gathered at once: it divides the rows of ImageNet's networks

TO_BLOCKED = record(
    "source source_batch source_channel source_row target target_batch target_block target_row "
    "batch channels height width"
)

FROM_BLOCKED = record(
    "source source_batch source_block source_row target target_batch target_channel target_row "
    "batch channels height width"
)

TO_PIXELS = record(
    "source source_batch source_channel source_row target target_batch target_row batch channels height width"
)

GATHER_CHANNELS = record(
    "source source_batch source_block source_row entries starts target target_batch target_block target_row "
    "batch blocks height width chunk"
)

# One source block that a target block takes channels from, and for each lane of the target the lane there, or -1.
ENTRY = record("block", lanes=f"{LANES}i4")
ENTRY_BYTES = ENTRY.itemsize

ZERO_HALO = record("target target_batch target_block target_row batch blocks height width top left bottom right chunk")


@inline
def _rows(a, source_pixel, target_pixel):
    """Rows and pixels in a row; an image without gaps between the rows on either side is one row."""
    if a.source_row == a.width * source_pixel and a.target_row == a.width * target_pixel:
        return 1, a.height * a.width
    return a.height, a.width


@kernel(TO_BLOCKED)
def to_blocked(a, thread, threads):
    """Plain to blocked; lanes beyond the channels become zeros."""
    blocks = (a.channels + LANES - 1) // LANES
    height, width = _rows(a, 4, VECTOR_BYTES)
    chunks = (width + CHUNK - 1) // CHUNK
    items = a.batch * blocks * height * chunks
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, block, image = item // chunks % height, item // chunks // height % blocks, item // chunks // height // blocks
        source = a.source + image * a.source_batch + block * LANES * a.source_channel + y * a.source_row
        target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
        channels = min(LANES, a.channels - block * LANES)
        begin = item % chunks * CHUNK
        for x in range(begin, min(width, begin + CHUNK), LANES):
            pixels = min(LANES, width - x)
            place = target + x * VECTOR_BYTES
            transpose_tile(source + x * 4, a.source_channel, place, VECTOR_BYTES, channels, pixels, LANES)


@kernel(FROM_BLOCKED)
def from_blocked(a, thread, threads):
    """Blocked to plain; lanes beyond the channels are left out."""
    blocks = (a.channels + LANES - 1) // LANES
    height, width = _rows(a, VECTOR_BYTES, 4)
    chunks = (width + CHUNK - 1) // CHUNK
    items = a.batch * blocks * height * chunks
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, block, image = item // chunks % height, item // chunks // height % blocks, item // chunks // height // blocks
        source = a.source + image * a.source_batch + block * a.source_block + y * a.source_row
        target = a.target + image * a.target_batch + block * LANES * a.target_channel + y * a.target_row
        channels = min(LANES, a.channels - block * LANES)
        begin = item % chunks * CHUNK
        for x in range(begin, min(width, begin + CHUNK), LANES):
            pixels = min(LANES, width - x)
            place = source + x * VECTOR_BYTES
            transpose_tile(place, VECTOR_BYTES, target + x * 4, a.target_channel, pixels, channels, pixels)


@kernel(TO_PIXELS)
def to_pixels(a, thread, threads):
    """Plain to [N][H][W][C] with C = `channels` of 1..4, for first convolutions; target pixels have no gaps."""
    items = a.batch * a.height
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        source = a.source + item // a.height * a.source_batch + item % a.height * a.source_row
        target = a.target + item // a.height * a.target_batch + item % a.height * a.target_row
        if a.width < LANES:
            for x in range(a.width):
                for channel in range(a.channels):
                    place = target + (x * a.channels + channel) * 4
                    simd.store_f32(place, simd.load_f32(source + channel * a.source_channel + x * 4))
            continue
        for begin in range(0, a.width, LANES):
            x = min(begin, a.width - LANES)
            place = target + x * a.channels * 4
            if a.channels == 3:
                shuffle.interleave3(source + x * 4, a.source_channel, place)
            elif a.channels == 1:
                shuffle.interleave1(source + x * 4, a.source_channel, place)
            elif a.channels == 2:
                shuffle.interleave2(source + x * 4, a.source_channel, place)
            else:
                shuffle.interleave4(source + x * 4, a.source_channel, place)


@kernel(GATHER_CHANNELS)
def gather_channels(a, thread, threads):
    """Blocked channels picked from those of a blocked source, by the arrays of `channel_table`.

    Lanes that pick nothing become zeros. `chunk` rows of a block come before those of the next one.
    """
    items = a.batch * a.blocks * a.height
    last_pixel = min(a.width, PIXELS) - 1  # of narrow rows the last one is written several times
    o1, o2, o3 = min(1, last_pixel) * VECTOR_BYTES, min(2, last_pixel) * VECTOR_BYTES, min(3, last_pixel) * VECTOR_BYTES
    o4, o5, o6 = min(4, last_pixel) * VECTOR_BYTES, min(5, last_pixel) * VECTOR_BYTES, last_pixel * VECTOR_BYTES
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, block, image = row_at(item, a.blocks, a.height, a.chunk)
        source = a.source + image * a.source_batch + y * a.source_row
        target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
        first = a.entries + simd.load_i64(a.starts + 8 * block) * ENTRY_BYTES
        last = a.entries + simd.load_i64(a.starts + 8 * block + 8) * ENTRY_BYTES
        for begin in range(0, a.width, PIXELS):
            x = max(0, min(begin, a.width - PIXELS))
            p0 = p1 = p2 = p3 = p4 = p5 = p6 = simd.broadcast(0.0)
            for entry in range(first, last, ENTRY_BYTES):
                place = source + simd.load_i64(entry) * a.source_block + x * VECTOR_BYTES
                lanes = shuffle.load_words(entry + 8)
                taken = lanes >= 0
                p0 = simd.select(taken, shuffle.permute(simd.load(place), lanes), p0)
                p1 = simd.select(taken, shuffle.permute(simd.load(place + o1), lanes), p1)
                p2 = simd.select(taken, shuffle.permute(simd.load(place + o2), lanes), p2)
                p3 = simd.select(taken, shuffle.permute(simd.load(place + o3), lanes), p3)
                p4 = simd.select(taken, shuffle.permute(simd.load(place + o4), lanes), p4)
                p5 = simd.select(taken, shuffle.permute(simd.load(place + o5), lanes), p5)
                p6 = simd.select(taken, shuffle.permute(simd.load(place + o6), lanes), p6)
            place = target + x * VECTOR_BYTES
            simd.store(place, p0)
            simd.store(place + o1, p1)
            simd.store(place + o2, p2)
            simd.store(place + o3, p3)
            simd.store(place + o4, p4)
            simd.store(place + o5, p5)
            simd.store(place + o6, p6)


@kernel(ZERO_HALO)
def zero_halo(a, thread, threads):
    """Clears the top, left, bottom and right pixels around the images of a blocked tensor of height x width.

    `chunk` rows of a block, with those above and below, come before those of the next block.
    """
    rows = a.top + a.height + a.bottom
    items = a.batch * a.blocks * rows
    zero = simd.broadcast(0.0)
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, block, image = row_at(item, a.blocks, rows, a.chunk)
        y -= a.top
        row = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
        inside = a.width if 0 <= y < a.height else 0
        place = row - a.left * VECTOR_BYTES
        for x in range(a.left + a.width + a.right - inside):
            if x == a.left:
                place += inside * VECTOR_BYTES
            simd.store(place, zero)
            place += VECTOR_BYTES


def channel_table(picks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The (entries, starts) of `gather_channels`; channel c of the target is channel picks[c] of the source.

    The target has len(starts) - 1 blocks. Both arrays must outlive the kernel's last run.
    """
    entries: list[tuple[int, list[int]]] = []
    starts = [0]
    for first in range(0, len(picks), LANES):
        lanes_of: dict[int, list[int]] = {}
        for lane, channel in enumerate(picks[first : first + LANES]):
            lanes_of.setdefault(channel // LANES, [-1] * LANES)[lane] = channel % LANES
        entries += lanes_of.items()
        starts.append(len(entries))
    return np.array(entries, ENTRY), np.array(starts, np.int64)
