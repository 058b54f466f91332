"""Conversions of bytes between the plain layout [N][C][H][W] and blocks of channels.

Plain tensors are given by the byte strides of images, channels and rows; their pixels are successive bytes.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import inline, kernel, lazy
from cpuruntime.ops.reorder import CHUNK, FROM_BLOCKED, TO_BLOCKED

byte_lanes = lazy("cpuruntime.compiler.byte_lanes")
simd = lazy("cpuruntime.compiler.simd")


@inline
def _transpose_bytes(source, source_stride, target, target_stride, rows, columns):
    """Transposes `rows` x `columns` bytes, 1..LANES each."""
    if rows == LANES and columns == LANES:
        byte_lanes.transpose(source, source_stride, target, target_stride)
        return
    for column in range(columns):
        for row in range(rows):
            simd.store_u8(target + column * target_stride + row, simd.load_u8(source + row * source_stride + column))


@kernel(TO_BLOCKED)
def to_blocked_bytes(a, thread, threads):
    """Plain to blocked; lanes beyond the channels hold anything."""
    blocks, chunks = (a.channels + LANES - 1) // LANES, (a.width + CHUNK - 1) // CHUNK
    items = a.batch * blocks * a.height * chunks
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, row = item // chunks % a.height, item // chunks // a.height
        block, image = row % blocks, row // blocks
        source = a.source + image * a.source_batch + block * LANES * a.source_channel + y * a.source_row
        target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
        channels = min(LANES, a.channels - block * LANES)
        begin = item % chunks * CHUNK
        for x in range(begin, min(a.width, begin + CHUNK), LANES):
            pixels = min(LANES, a.width - x)
            if channels <= byte_lanes.FEW and pixels == LANES:
                byte_lanes.interleave(source + x, a.source_channel, channels, target + x * LANES)
            else:
                _transpose_bytes(source + x, a.source_channel, target + x * LANES, LANES, channels, pixels)


@kernel(FROM_BLOCKED)
def from_blocked_bytes(a, thread, threads):
    """Blocked to plain; lanes beyond the channels are left out."""
    blocks, chunks = (a.channels + LANES - 1) // LANES, (a.width + CHUNK - 1) // CHUNK
    items = a.batch * blocks * a.height * chunks
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        y, row = item // chunks % a.height, item // chunks // a.height
        block, image = row % blocks, row // blocks
        source = a.source + image * a.source_batch + block * a.source_block + y * a.source_row
        target = a.target + image * a.target_batch + block * LANES * a.target_channel + y * a.target_row
        channels = min(LANES, a.channels - block * LANES)
        begin = item % chunks * CHUNK
        for x in range(begin, min(a.width, begin + CHUNK), LANES):
            pixels = min(LANES, a.width - x)
            _transpose_bytes(source + x * LANES, LANES, target + x, a.target_channel, pixels, channels)
